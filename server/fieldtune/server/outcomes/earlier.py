"""A finished study as prior knowledge of another one (warm start)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from fieldtune.server.study.space import Parameter, Value

FEWEST = 4
"""A run needs at least this many trained trials to serve as prior knowledge."""


class EarlierTrial(BaseModel):
    """A trained configuration and its objectives by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    configuration: dict[str, Value]
    objectives: dict[str, float]


class EarlierStudy(BaseModel):
    """A finished study: its parameters and trained trials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: dict[str, Parameter]
    trials: list[EarlierTrial] = Field(min_length=FEWEST)
