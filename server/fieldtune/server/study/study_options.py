"""``[study]``: budget, rounds and objectives."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from fieldtune.server.study.objectives import MEASURES, Objective, StoredObjective, parse_objective
from fieldtune.server.study.section import Section

MAX_OBJECTIVES = 4

_STORAGE = re.compile(
    r"postgresql://([\w.%+-]+@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])?(:\d{1,5})?/[\w.%+-]+(\?host=[\w./%-]+)?"
)
"""A URL of PostgreSQL; ``?host=`` names the folder of a Unix socket."""

_LONGEST = 100
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST - 1}}}")

BUDGETS = ("trials", "device_hours", "energy_j", "sent_bytes")
"""Keys of ``[study]`` that limit it; it ends when any that is set is used up."""


class StudySection(Section):
    """``[study]``: budget, rounds and objectives."""

    name: str
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    device_hours: float | None = Field(default=None, gt=0)
    """Hours that all devices together may be busy."""
    energy_j: float | None = Field(default=None, gt=0)
    """Joules that all devices together may use for it."""
    sent_bytes: float | None = Field(default=None, gt=0)
    """Bytes that all devices together may send."""
    rounds: int = Field(ge=1, le=1_000_000)
    objectives: tuple[StoredObjective, ...] = Field(
        default=tuple(MEASURES[name] for name in ("error", "inference_ms", "energy_j")),
    )
    target_error: float | None = Field(default=None, gt=0, lt=1)
    """Of the objective ``time_to_error_h``."""
    evaluate_every: int | None = Field(default=None, ge=1, le=1_000_000)
    """Rounds after which a model in training is evaluated; None: at rungs and at the end only."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    parallel: int = Field(default=4, ge=1, le=10_000)
    """Trials that are trained at the same time. It changes the results: each proposal is made
    without knowing the trials that are still being trained."""
    storage: str | None = None
    """``postgresql://[user@]host[:port]/database``; None: ``study.db`` in the run folder."""

    @field_validator("name")
    @classmethod
    def _for_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"is {name[:_LONGEST]!r}: use up to {_LONGEST} letters, digits, '.', '_' and '-', "
                "the first one a letter or digit; the run's folder is called so"
            )
        return name

    @field_validator("storage")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if re.fullmatch(r"postgresql://[^@/]*:[^@/]*@.*", url):
            raise ValueError(
                "contains a password: leave it out, and put it into PGPASSWORD or ~/.pgpass, since "
                "the study file is copied into the run folder"
            )
        if not _STORAGE.fullmatch(url):
            raise ValueError(
                "must be postgresql://[user@]host[:port]/database; without it, the study is in "
                "study.db of the run folder"
            )
        return url

    @field_validator("objectives", mode="before")
    @classmethod
    def _known(cls, entries: object) -> object:
        if not isinstance(entries, (list, tuple)):
            raise ValueError('must be a list of measures, such as ["error", "energy_j"]')
        if not 1 <= len(entries) <= MAX_OBJECTIVES:
            raise ValueError(
                f"names {len(entries) or 'no'} objectives: name 1 to {MAX_OBJECTIVES}, and give "
                "what else must hold as [limits]"
            )
        found = [e if isinstance(e, Objective) else parse_objective(str(e)) for e in entries]
        names = [objective.name for objective in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"names the objective {twice[0]!r} twice: name each once")
        return tuple(found)

    @model_validator(mode="after")
    def _has_budget(self) -> StudySection:
        if all(getattr(self, budget) is None for budget in BUDGETS):
            raise ValueError(
                f"has no stopping criterion: set trials, or a budget ({', '.join(BUDGETS[1:])})"
            )
        return self

    @property
    def counts_costs(self) -> bool:
        """Whether a budget limits what trials cost, rather than just their number."""
        return any(getattr(self, budget) is not None for budget in BUDGETS[1:])
