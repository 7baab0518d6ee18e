"""The search space: parameters, configurations, and uniform sampling."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

Value = int | float | str | bool
Section = Literal["model", "client", "server"]
SECTIONS: tuple[Section, ...] = ("model", "client", "server")

Scalar = Annotated[StrictBool | StrictInt | StrictFloat | StrictStr, Field()]
_Number = Annotated[StrictInt | StrictFloat, Field()]

_ENDS = ("low =", "high =")
_MAX_SIZE = 10**18
"""Larger numbers would lose digits as a float, or overflow."""


def _check_values(parameter: Mapping[str, object]) -> None:
    """Refuse a value of a parameter that no setting can have."""
    choices = parameter.get("choices") or ()
    if not isinstance(choices, (list, tuple)):
        raise ValueError(f"has choices = {choices!r}: list them, as choices = [8, 16]")
    given = [("the choice", each) for each in choices]
    given += [
        (f"{key} =", parameter[key]) for key in ("low", "high", "default") if key in parameter
    ]
    for name, value in given:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            fits = -_MAX_SIZE <= value <= _MAX_SIZE  # false for nan
        else:
            fits = value is None or (isinstance(value, (bool, str)) and name not in _ENDS)
        if not fits:
            kind = "a number" if name in _ENDS else "a text, true, false, or a number"
            raise ValueError(f"has {name} {value!r}: it must be {kind} within -1e18 and 1e18")


class Parameter(BaseModel):
    """One dimension of the space: either ``choices``, or a range ``low..high``.

    A range of whole numbers with both ends written as integers yields integers. ``default`` is the
    value of the first trial, to which a study compares its recommendation; without it, it is the
    middle of the range (geometric with ``log``) or the middle choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    choices: tuple[Scalar, ...] | None = None
    low: _Number | None = None
    high: _Number | None = None
    log: StrictBool = False
    step: StrictInt | None = Field(default=None, ge=1)
    default: Scalar | None = None

    @model_validator(mode="before")
    @classmethod
    def _fixed(cls, given: object) -> object:
        """A plain value is the only choice."""
        if isinstance(given, (list, tuple)):
            raise ValueError(f"is a list: did you mean {{ choices = {_toml(given)} }}?")
        if isinstance(given, (bool, int, float, str)):
            given = {"choices": (given,)}
        elif not isinstance(given, (dict, Parameter)):
            raise ValueError(
                "must be a value, { choices = [...] }, or a range { low = ..., high = ... }"
            )
        if isinstance(given, dict):
            _check_values(given)
        return given

    @model_validator(mode="after")
    def _one_kind(self) -> Parameter:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step:
                raise ValueError("has both choices and a range: keep one of them")
            if not self.choices:
                raise ValueError("has no choices: give at least one")
            if len(set(map(repr, self.choices))) != len(self.choices):
                raise ValueError("lists a choice twice")
        else:
            if self.low is None or self.high is None:
                raise ValueError("needs either choices = [...] or both low and high")
            if not self.low <= self.high:
                raise ValueError(f"has low = {self.low} above high = {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"has log = true with low = {self.low}: it must be above 0")
            if self.step and not self.integer:
                raise ValueError("has a step, which only a range of whole numbers may have")
        if self.default is not None and not self.contains(self.default):
            raise ValueError(f"has default = {self.default!r}, which the space does not contain")
        return self

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(map(repr, self.choices))
        step = f" in steps of {self.step}" if self.step else ""
        return f"{'whole numbers from ' if self.integer else ''}{self.low} to {self.high}{step}"

    @property
    def integer(self) -> bool:
        """Whether this is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def bounds(self) -> tuple[float, float]:
        """``(low, high)`` of a range; raises TypeError for choices."""
        if self.low is None or self.high is None:
            raise TypeError("a parameter with choices has no bounds")
        return self.low, self.high

    def extremes(self) -> tuple[Value, ...]:
        """All choices, or the ends of the range."""
        return self.bounds() if self.choices is None else self.choices

    def contains(self, value: Value) -> bool:
        """Whether a configuration may take this value."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, (str, bool)):
            return False
        low, high = self.bounds()
        if self.integer and (value != int(value) or (value - low) % (self.step or 1)):
            return False
        return low <= value <= high

    def default_value(self) -> Value:
        """The stated default, or the middle."""
        if self.default is not None:
            return self.default
        if self.choices is not None:
            return self.choices[(len(self.choices) - 1) // 2]
        return self.at(0.5)

    def at(self, fraction: float) -> Value:
        """The value at a fraction 0..1 of the range (of its logarithm, with ``log``)."""
        if self.choices is not None:
            return self.choices[min(int(fraction * len(self.choices)), len(self.choices) - 1)]
        low, high = self.bounds()
        if self.integer:
            step = self.step or 1
            if not self.log:
                count = int(high - low) // step + 1
                return int(low) + step * min(int(fraction * count), count - 1)
            # A whole number n stands for the interval n - 0.5 .. n + 0.5, as in Optuna.
            value = math.exp(
                math.log(low - 0.5) + fraction * (math.log(high + 0.5) - math.log(low - 0.5))
            )
            return int(min(max(round(value), low), high))
        if self.log:
            value = math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
            return min(max(value, low), high)
        return low + fraction * (high - low)

    def fraction(self, value: Value) -> float:
        """The inverse of :meth:`at`: the middle of the fractions 0..1 that map to this value.

        Raises:
            ValueError: it is not one of the choices.
        """
        if self.choices is not None:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        (low, high), number = self.bounds(), float(value)
        if self.integer and not self.log:
            step = self.step or 1
            return (int(number - low) // step + 0.5) / (int(high - low) // step + 1)
        if self.integer:
            low, high = low - 0.5, high + 0.5
        if low == high:
            return 0.5
        if self.log:
            return math.log(number / low) / math.log(high / low)
        return (number - low) / (high - low)

    def count(self) -> int | None:
        """Number of values; None for a range of real numbers."""
        if self.choices is not None:
            return len(self.choices)
        low, high = self.bounds()
        if self.integer:
            return int(high - low) // (self.step or 1) + 1
        return 1 if low == high else None


def _toml(values: Sequence[object]) -> str:
    """A list as a study file has it; shortened where it is long."""
    text = json.dumps(values, default=str)
    return text if len(text) <= 60 else "[...]"


@dataclass(frozen=True)
class Configuration:
    """A value for each parameter of a space, by section."""

    model: Mapping[str, Value]
    client: Mapping[str, Value]
    server: Mapping[str, Value]

    def flat(self) -> dict[str, Value]:
        """All values by name; names are unique across sections."""
        return {**self.model, **self.client, **self.server}

    @cached_property
    def key(self) -> tuple[tuple[str, Value], ...]:
        """Equal for equal configurations, and hashable."""
        return tuple(sorted(self.flat().items()))


class Space(BaseModel):
    """The parameters of a study: of the model, of training on the client, and of the server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: dict[str, Parameter] = Field(default_factory=dict)
    client: dict[str, Parameter] = Field(default_factory=dict)
    server: dict[str, Parameter] = Field(default_factory=dict)

    def parameters(self) -> dict[str, Parameter]:
        """All parameters by name."""
        return {**self.model, **self.client, **self.server}

    def configuration(self, values: Mapping[str, Value]) -> Configuration:
        """The configuration with these values; raises KeyError where one is missing."""
        return Configuration(
            *({name: values[name] for name in getattr(self, section)} for section in SECTIONS)
        )

    def defaults(self) -> Configuration:
        """The configuration of all default values."""
        return self.configuration(
            {name: parameter.default_value() for name, parameter in self.parameters().items()}
        )

    def sample(self, count: int, seed: int) -> list[Configuration]:
        """``count`` configurations, drawn uniformly (in the logarithm, with ``log``)."""
        rng = np.random.default_rng(seed)
        parameters = self.parameters()
        return [
            self.configuration(
                {
                    name: parameter.at(fraction)
                    for (name, parameter), fraction in zip(
                        parameters.items(), rng.random(len(parameters)), strict=True
                    )
                }
            )
            for _ in range(count)
        ]
