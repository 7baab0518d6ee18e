"""``fieldtune init DIR``: a study with own data, model and metric that runs as it is."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fieldtune.profiles.common.errors import StorageError
from fieldtune.profiles.common.files import write_atomically, writing

STUDY, MODULE = "gestures.toml", "gestures.py"


def scaffold(folder: Path) -> list[Path]:
    """Write the study file and its module into a folder; the files written.

    Raises:
        StorageError: one of them exists already, or cannot be written.
    """
    template = files("fieldtune.simulations") / "template"
    contents = {STUDY: template / STUDY, MODULE: template / f"{MODULE}.txt"}
    for name in contents:
        if (folder / name).exists():
            raise StorageError(f"{folder / name} exists already: give another folder")
    for name, content in contents.items():
        with writing(folder / name, "try again"):
            write_atomically(folder / name, content.read_bytes(), parents=True)
    return [folder / name for name in contents]
