"""Raw outcomes as small files, from which tables are made again.

A file holds the runs of one problem, each on a line: peer, seed, configurations, measured values
and scores; or what was gained in one study, a line for each seed and device type. Numbers are
rounded to six digits.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from fieldtune.profiles.common.errors import DataError
from tuner.defaults import Gain
from tuner.experiment import Outcome

FOLDER = Path(__file__).with_name("outcomes")
Kept = TypeVar("Kept")
_OUTCOME, _GAIN = TypeAdapter(Outcome), TypeAdapter(Gain)


def keep(outcomes: Iterable[Outcome], folder: Path, *, ours: str, called: str) -> None:
    """Add outcomes to the files of their problems.

    Args:
        outcomes: of any problems.
        folder: made where it does not exist.
        ours: a peer.
        called: its name in the files, such as that of an earlier form.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(outcomes, key=lambda each: (each.problem, each.peer, each.seed))
    for problem, some in groupby(ordered, key=lambda each: each.problem):
        file = folder / f"{problem}.jsonl.gz"
        before = {(each.peer, each.seed, each.variation): each for each in read([file])}
        for each in some:
            renamed = dataclasses.replace(each, peer=called if each.peer == ours else each.peer)
            before[renamed.peer, renamed.seed, renamed.variation] = renamed
        _write(file, before.values())


def keep_gains(gains: Iterable[Gain], folder: Path) -> None:
    """Add gains to the files of their studies; of a seed and device type the last one stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for study, some in groupby(sorted(gains, key=lambda each: each.study), lambda each: each.study):
        file = folder / f"{study}.jsonl.gz"
        kept = {(each.seed, each.device): each for each in (*read_gains([file]), *some)}
        _write(file, [kept[key] for key in sorted(kept)])


def read(files: Sequence[Path]) -> list[Outcome]:
    """Outcomes of these files; none of one that does not exist.

    Raises:
        DataError: a file is damaged.
    """
    return _read(files, _OUTCOME)


def read_gains(files: Sequence[Path]) -> list[Gain]:
    """Gains of these files; none of one that does not exist.

    Raises:
        DataError: a file is damaged.
    """
    return _read(files, _GAIN)


def _read(files: Sequence[Path], kind: TypeAdapter[Kept]) -> list[Kept]:
    found: list[Kept] = []
    for file in files:
        if not file.exists():
            continue
        try:
            lines = gzip.decompress(file.read_bytes()).decode().splitlines()
            found += [kind.validate_json(line) for line in lines]
        except (OSError, EOFError, ValueError) as damaged:
            raise DataError(f"{file} cannot be read: {damaged}") from damaged
    return found


def _write(file: Path, kept: Iterable[Outcome | Gain]) -> None:
    lines = [json.dumps(_short(dataclasses.asdict(each))) for each in kept]
    text = "".join(f"{line}\n" for line in lines).encode()
    file.write_bytes(gzip.compress(text, mtime=0))


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, (list, tuple)) else value
