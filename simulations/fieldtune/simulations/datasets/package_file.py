"""Files that came with an installed package, found by path: nothing of the package is executed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fieldtune.profiles.common.errors import DataError


def package_file(package: str, inside: str, missing: str) -> Path:
    """The path of a file inside a package.

    Args:
        package: its top-level import name; a dotted one would import the parent.
        inside: path below the package's folder.
        missing: the sentence to raise where it is not installed.

    Raises:
        DataError: the package or the file is not there.
    """
    found = importlib.util.find_spec(package)
    for folder in found.submodule_search_locations or () if found is not None else ():
        file = Path(folder, inside)
        if file.is_file():
            return file
    raise DataError(missing)
