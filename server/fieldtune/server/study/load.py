"""Reading a study file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.toml import from_toml
from fieldtune.profiles.common.validation import dotted, first_error
from fieldtune.server.study.config import StudyConfig

_DEVICE_LIMITS = ("limits", "devices")


def load_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises:
        StudyError: the file is missing, is not TOML, or has a wrong or unknown entry.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise StudyError(f"There is no study file {path}: give the path of a .toml file") from None
    except (OSError, UnicodeDecodeError) as unreadable:
        raise StudyError(f"{path} cannot be read: {unreadable}") from None
    return parse_study(text, str(path))


def parse_study(text: str, where: str) -> StudyConfig:
    """The study of a TOML text; ``where`` names it in messages."""
    try:
        tree = from_toml(text)
    except tomllib.TOMLDecodeError as wrong:
        raise StudyError(f"{where} is not valid TOML: {wrong}") from None
    limits = tree.get("limits")
    if isinstance(limits, dict):
        # In the file, tables such as [limits."raspberry-pi-4b"] stand beside the general limits.
        tables = {name: value for name, value in limits.items() if isinstance(value, dict)}
        general = {name: value for name, value in limits.items() if name not in tables}
        tree["limits"] = {**general, "devices": tables} if tables else general
    try:
        return StudyConfig.model_validate(tree)
    except ValidationError as wrong:
        raise StudyError(f"{where}: {first_error(wrong, StudyConfig, key=_key)}") from None


def _key(location: tuple[int | str, ...]) -> str:
    """A key as the file spells it: ``limits."raspberry-pi-4b"``, without ``devices``."""
    return dotted((*location[:1], *location[2:]) if location[:2] == _DEVICE_LIMITS else location)
