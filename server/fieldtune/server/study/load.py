"""Reading a study file, and the one sentence for whatever is wrong with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from fieldtune.profiles.common.errors import StudyError, did_you_mean
from fieldtune.server.study.config import (
    Caps,
    FleetSection,
    LimitsSection,
    StudyConfig,
    StudySection,
    TaskSection,
)
from fieldtune.server.study.partition import Partition
from fieldtune.server.study.space import Parameter, Space
from fieldtune.server.study.tuner_options import Fedex, TunerSection


def load_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises:
        StudyError: the file is missing, is no TOML, or has a wrong or unknown entry.
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
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise StudyError(f"{where} is not valid TOML: {wrong}") from None
    limits = tree.get("limits")
    if isinstance(limits, dict):
        # [limits."raspberry-pi-4b"] stands beside the general limits in the file.
        tables = {name: value for name, value in limits.items() if isinstance(value, dict)}
        general = {name: value for name, value in limits.items() if name not in tables}
        tree["limits"] = {**general, "devices": tables} if tables else general
    try:
        return StudyConfig.model_validate(tree)
    except ValidationError as wrong:
        raise StudyError(f"{where}: {_sentence(wrong)}") from None


def _sentence(wrong: ValidationError) -> str:
    """The first error, in a sentence that names key, value and remedy.

    An unknown key comes first: a misspelt key is also a missing one.
    """
    errors = wrong.errors(include_url=False)
    error = min(errors, key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in error["loc"]]
    if path[:2] == ["limits", "devices"]:
        del path[1]
    key = ".".join(path)
    match error["type"]:
        case "extra_forbidden":
            known = _keys_at(error["loc"][:-1])
            hint = did_you_mean(path[-1], known)
            return f"{key} is not a known key{hint}" + (
                "" if hint else f"; known here are {', '.join(known)}"
            )
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return " ".join(filter(None, [key, str(error["ctx"]["error"])]))
        case _:
            shown = repr(error["input"])
            message = error["msg"][0].lower() + error["msg"][1:]
            return f"{key} = {shown if len(shown) < 60 else shown[:57] + '...'}: {message}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Known keys of the section at a location of the file."""
    sections: dict[tuple[str, ...], type[BaseModel]] = {
        (): StudyConfig,
        ("study",): StudySection,
        ("task",): TaskSection,
        ("task", "partition"): Partition,
        ("fleet",): FleetSection,
        ("limits",): LimitsSection,
        ("tuner",): TunerSection,
        ("tuner", "fedex"): Fedex,
        ("space",): Space,
    }
    place = tuple(str(part) for part in location)
    if place in sections:
        return list(sections[place].model_fields)
    if place[:2] == ("limits", "devices"):
        return list(Caps.model_fields)
    return list(Parameter.model_fields)
