"""Problems by name: our own, or anyone's as ``package.module:Class``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fieldtune.profiles.common.errors import UsageError, did_you_mean
from fieldtune.profiles.common.load_object import load_object
from tuner.analytic import ANALYTIC
from tuner.engineering import ENGINEERING
from tuner.federated import Federated
from tuner.problem import Problem
from tuner.tables import TABLES

STUDIES = Path(__file__).with_name("studies")


def own_problems() -> Mapping[str, Callable[[], Problem]]:
    """Name -> how to make it."""
    return {
        **{kind.name: kind for kind in (*ANALYTIC, *ENGINEERING)},
        **TABLES,
        **{
            file.stem: lambda file=file: Federated(file)  # type: ignore[misc]
            for file in sorted(STUDIES.glob("*.toml"))
        },
    }


def make_problem(name: str) -> Problem:
    """The problem of this name.

    Raises:
        UsageError: there is none, or its module cannot be imported.
        DataError: a package that it needs is not installed.
    """
    own = own_problems()
    if name in own:
        return own[name]()
    if ":" not in name:
        raise UsageError(
            f"--problem {name} is not known{did_you_mean(name, own)}: give one of "
            f"{', '.join(own)}, or package.module:Class"
        )
    made = load_object(name, setting="--problem", error=UsageError)()
    lacking = [member for member in _MEMBERS if not hasattr(made, member)]
    if lacking:
        raise UsageError(
            f"--problem {name} lacks {', '.join(lacking)}: docs/benchmark.md lists all"
        )
    problem: Problem = made
    return problem


_MEMBERS = (
    "name",
    "space",
    "objectives",
    "shares",
    "rounds",
    "trials",
    "reference",
    "known",
    "evaluate",
    "truth",
)
