"""A finished study, as far as another one can learn from it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from fieldtune.server.study.space import Parameter, Value

FEWEST = 4
"""Trained trials without which a run has nothing to say."""


class EarlierTrial(BaseModel):
    """A trained configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    configuration: dict[str, Value]
    objectives: dict[str, float]


class EarlierStudy(BaseModel):
    """A finished study, as far as another one can learn from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: dict[str, Parameter]
    trials: list[EarlierTrial] = Field(min_length=FEWEST)
