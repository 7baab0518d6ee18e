"""Cut the power at any moment of a study: it ends as if nothing had happened.

``python tests/system/power_cuts.py`` records a study once with ``recorded_writes.c``, computes what
a power cut at each of its moments may leave on the disk, and resumes the study from that.
``test_power_cuts.py`` does the same with some of the moments. Two kinds of disk are assumed:

- "strict" keeps a file's content, and the names in a folder, as they were when last synced;
- "eager" keeps names as they are, at once, and contents as they were when last synced: a renamed
  file that was not synced is empty.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import whole_study
from support.killed import in_child

TRIALS = 4
SHIM = Path(__file__).with_name("recorded_writes.c")
PROGRAM = Path(whole_study.__file__)
Disk = Literal["strict", "eager"]


@dataclass(eq=False)
class File:
    """A file, and the number of the copy of its content when it was last synced."""

    synced: int | None = None


@dataclass(eq=False)
class Folder:
    """A folder, with its names as they are and as they were when it was last synced."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)


Tree = tuple[tuple[str, int | None], ...]
"""Path of each file and the copy of its content; of a folder, the path ends with a slash."""


def left(folder: Folder, disk: Disk, at: str = "") -> Iterator[tuple[str, int | None]]:
    """What a disk has after a power cut."""
    for name, each in sorted((folder.synced if disk == "strict" else folder.names).items()):
        if isinstance(each, File):
            yield at + name, each.synced
        else:
            yield f"{at}{name}/", None
            yield from left(each, disk, f"{at}{name}/")


@dataclass
class Cut:
    """What a power cut leaves."""

    tree: Tree
    disk: Disk
    line: int
    """Of the log, at which it was cut."""
    told: frozenset[int]
    """The trials that had been told by then."""


class Recording:
    """A study that was recorded from start to end in an empty folder.

    Raises:
        FileNotFoundError: there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.copies = folder, folder / "copies"
        self.copies.mkdir()
        library, log = folder / "shim.so", folder / "log"
        subprocess.run(
            ["cc", "-O1", "-shared", "-fPIC", "-o", library, SHIM, "-ldl", "-lpthread"], check=True
        )
        environment = {
            "LD_PRELOAD": str(library), "RECORD_BELOW": str(folder.resolve() / "run"),
            "RECORD_LOG": str(log), "RECORD_COPIES": str(self.copies),
        }  # fmt: skip
        subprocess.run(
            [sys.executable, PROGRAM, folder, str(TRIALS), log],
            env=os.environ | environment, check=True,
        )  # fmt: skip
        self._lines = log.read_text().splitlines()

    def cuts(self) -> list[Cut]:
        """One power cut for each state of either disk."""
        root, told, seen = Folder(), set[int](), dict[tuple[Disk, Tree], Cut]()
        for number, line in enumerate(self._lines):
            first, _, rest = line.partition(" ")
            if first == "told":
                told.add(int(rest))
            elif first == "@":
                self._apply(root, *rest.split(" ", 1))
            for disk in ("strict", "eager"):
                tree = tuple(left(root, disk))
                # The last moment of each state, when most had been told.
                seen[disk, tree] = Cut(tree, disk, number, frozenset(told))
        return list(seen.values())

    def _apply(self, root: Folder, what: str, rest: str) -> None:
        if what == "sync":
            copy, rest = rest.split(" ", 1)
            if isinstance(found := self._found(root, rest), File):
                found.synced = int(copy)  # else it had no name any more
            return
        if what == "sync-folder":
            found = self._found(root, rest)
            assert isinstance(found, Folder)
            found.synced = dict(found.names)
            return
        path, _, target = rest.partition("\t")
        within, name = self._place(root, path)
        match what:
            case "make":
                within.names[name] = File()
            case "folder":
                within.names[name] = Folder()
            case "remove":
                del within.names[name]
            case "rename":
                moved = within.names.pop(name)
                within, name = self._place(root, target)
                within.names[name] = moved

    def _place(self, root: Folder, path: str) -> tuple[Folder, str]:
        *folders, name = Path(path).relative_to(self.folder.resolve() / "run").parts
        for each in folders:
            inner = root.names[each]
            assert isinstance(inner, Folder)
            root = inner
        return root, name

    def _found(self, root: Folder, path: str) -> File | Folder | None:
        if Path(path) == self.folder.resolve() / "run":
            return root
        within, name = self._place(root, path)
        return within.names.get(name)

    def resume(self, cut: Cut, folder: Path) -> list[int]:
        """Resume the study from what is left, in a new folder; the trials that were trained."""
        run = folder / "run"
        run.mkdir(parents=True)
        (folder / "cache").symlink_to(self.folder / "cache")
        for path, copy in cut.tree:
            if path.endswith("/"):
                (run / path).mkdir()
            elif copy is None:
                (run / path).touch()
            else:
                shutil.copyfile(self.copies / str(copy), run / path)
        log = folder / "log"
        log.touch()
        failed = in_child(lambda: whole_study.run(folder, TRIALS, log))
        assert not failed, f"it does not resume after line {cut.line} on a {cut.disk} disk"
        expected = (self.folder / "end").read_text()
        assert (folder / "end").read_text() == expected, f"differs after line {cut.line}"
        firsts = [line.partition(" ")[0] for line in log.read_text().splitlines()]
        return sorted({int(first) for first in firsts if first != "told"})


def main(
    sample: Annotated[int, typer.Option(help="Number of power cuts; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
) -> None:
    """Cut the power at every moment of a study, or at some."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recorded").mkdir()
        recording = Recording(folder / "recorded")
        cuts = recording.cuts()
        chosen = random.Random(seed).sample(cuts, sample) if sample else cuts
        for number, cut in enumerate(chosen):
            trained = recording.resume(cut, folder / str(number))
            lost = cut.told.intersection(trained)
            assert not lost, f"trials {lost} were told and are lost, line {cut.line}"
            shutil.rmtree(folder / str(number))
        typer.echo(
            f"{len(chosen)} of {len(cuts)} states after a power cut: the same bytes, and no trial "
            "that had been told was trained again"
        )


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
