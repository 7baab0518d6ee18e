"""What is wrong with a user's file: one sentence with the key, the value and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fieldtune.profiles.common.validation import first_error


class Limits(BaseModel):
    model_config = ConfigDict(extra="forbid")

    round_s: float = Field(default=1.0, gt=0)


class File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    devices: dict[str, Limits] = Field(default_factory=dict)
    trials: int | None = Field(default=None, ge=1)

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 8:
            raise ValueError(f"{name!r} is too long: 8 letters at most")
        return name


def said(given: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ValidationError) as wrong:
        File.model_validate(given)
    return first_error(wrong.value, File, **more)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "name is missing"),
        ({"nam": "x"}, "nam is not a known key (did you mean 'name'?)"),  # and not: is missing
        (
            {"name": "x", "colour": 1},
            "colour is not a known key; valid keys here: name, devices, trials",
        ),
        (
            {"name": "x", "devices": {"pi": {"rounds_s": 1}}},
            "devices.pi.rounds_s is not a known key (did you mean 'round_s'?)",
        ),
        ({"name": "x", "trials": 0}, "trials = 0: must be greater than or equal to 1"),
        ({"name": "x" * 9}, "name 'xxxxxxxxx' is too long: 8 letters at most"),
        (
            {"name": "x", "trials": "3 x"},
            "trials = '3 x': must be a number, without quotes and unit",
        ),
        (
            {"name": "x", "devices": ["pi"]},
            "devices = ['pi']: must be a table, such as { name = value }",
        ),
        ({"name": ["x" * 99]}, f"name = ['{'x' * 55}...: must be a valid string"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(given: dict[str, Any], sentence: str) -> None:
    assert said(given) == sentence


def test_a_secret_is_not_repeated() -> None:
    assert said({"name": 4711}, quotes=False) == "name: must be a valid string"


def test_a_key_is_written_as_the_file_has_it_and_further_keys_may_be_known() -> None:
    assert said({"name": "x", "trials": 0}, key=lambda _: "--trials").startswith("--trials = 0: ")
    assert "did you mean 'extends'" in said({"name": "x", "extend": 1}, also_known=["extends"])
    assert said({}, special=lambda error: error["type"]) == "missing"


def test_a_key_changes_nothing_on_a_terminal() -> None:
    with pytest.raises(ValidationError) as raised:
        File.model_validate({"name": "x", "\x1b[2J\n": 1})
    assert first_error(raised.value, File).startswith(" [2J  is not a known key")
