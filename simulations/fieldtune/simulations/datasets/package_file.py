"""Paths of files in installed packages, found without importing the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fieldtune.profiles.common.errors import DataError


def package_file(package: str, inside: str, missing: str) -> Path:
    """The path of a file inside a package.

    Args:
        package: top-level import name; a dotted name would import the parent.
        inside: path relative to the package's folder.
        missing: the error message if it is not installed.

    Raises:
        DataError: the package or the file does not exist.
    """
    found = importlib.util.find_spec(package)
    for folder in found.submodule_search_locations or () if found is not None else ():
        file = Path(folder, inside)
        if file.is_file():
            return file
    raise DataError(missing)
