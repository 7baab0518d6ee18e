"""Reading a study file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.toml import from_toml
from fieldtune.profiles.common.validation import dotted, first_error
from fieldtune.server.study.config import StudyConfig

_PER_DEVICE = {"limits": (), "decision": ("weights",)}
"""Sections with tables of device types in them, and their keys that are tables but no types."""


def load_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises:
        StudyError: the file is missing, is not TOML, or has a wrong or unknown entry.
    """
    return parse_study(study_text(path), str(path))


def study_text(path: Path) -> str:
    """The text of a study file, without the byte order mark that some editors write.

    Raises:
        StudyError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise StudyError(f"There is no study file {path}: give the path of a .toml file") from None
    except IsADirectoryError:
        raise StudyError(f"{path} is a folder: give the path of a .toml file") from None
    except OSError as unreadable:
        raise StudyError(f"{path} cannot be read: {unreadable.strerror}") from None
    except UnicodeDecodeError as wrong:
        line = 1 + wrong.object[: wrong.start].count(b"\n")
        raise StudyError(f"{path} is not UTF-8 (line {line}): save it as UTF-8") from None


def parse_study(text: str, where: str) -> StudyConfig:
    """The study of a TOML text; ``where`` names it in messages."""
    try:
        tree = from_toml(text)
    except tomllib.TOMLDecodeError as wrong:
        raise StudyError(f"{where} is not valid TOML: {wrong}") from None
    try:
        return StudyConfig.model_validate(with_device_tables(tree))
    except ValidationError as wrong:
        raise StudyError(f"{where}: {first_error(wrong, StudyConfig, key=_key)}") from None


def with_device_tables(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A study file's tree with tables of device types below ``devices``.

    In the file, ``[limits."raspberry-pi-4b"]`` stands beside the general keys.
    """
    found = dict(tree)
    for name, own in _PER_DEVICE.items():
        section = tree.get(name)
        if isinstance(section, dict):
            tables = {
                key: value
                for key, value in section.items()
                if isinstance(value, dict) and key not in own
            }
            general = {key: value for key, value in section.items() if key not in tables}
            found[name] = {**general, "devices": tables} if tables else general
    return found


def _key(location: tuple[int | str, ...]) -> str:
    """A key as the file spells it: ``limits."raspberry-pi-4b"``, without ``devices``."""
    of_device = location[:1] and location[0] in _PER_DEVICE and location[1:2] == ("devices",)
    return dotted((*location[:1], *location[2:]) if of_device else location)
