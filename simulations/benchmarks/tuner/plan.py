"""What is to be run: the options, and what was registered for those that are not given."""

from __future__ import annotations

import argparse
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldtune.profiles.common.errors import UsageError
from tuner.peers import OURS, chosen_peers
from tuner.registry import STUDIES

PREREGISTRATION = Path(__file__).with_name("preregistration.toml")
PARTS = ("fronts", "wrong", "few-clients", "warm-start", "asks", "defaults", "recommend")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python simulations/benchmarks/tuner",
        description="How good is the tuner? docs/benchmark.md says what is measured and how.",
    )
    add = parser.add_argument
    add("--part", action="append", choices=PARTS, default=[], help="only this; may be repeated")
    add("--problem", action="append", default=[], help="a name or package.module:Class; repeatable")
    add("--study", action="append", default=[], help="of those in simulations/studies; repeatable")
    add("--peer", action="append", default=[], help="only this peer; may be repeated")
    add("--ours", default=OURS, help="the peer with which the others are compared; default grey")
    add("--seeds", type=int, help="paired seeds; by default those that were pre-registered")
    add("--first-seed", type=int, help="the lowest seed; by default that of judged runs")
    add("--trials", type=int, help="budget in full evaluations; by default the problem's own")
    add("--development", action="store_true", help="problems and seeds that may be tuned on")
    add("--evaluate", type=float, default=0.05, help="share of the clients, for few-clients")
    noise = "formulas and tables: times that results are off by as much as usual; repeatable"
    add("--noise", type=float, action="append", default=[], help=noise)
    add("--small", action="store_true", help="a minute's worth, to see that all works")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    add("--torch-python", help="an interpreter with torch, optuna and botorch, for gp and botorch")
    add("--json", type=Path, help="where to write every outcome")
    add("--keep", type=Path, metavar="FOLDER", help="add raw outcomes to its files, one a problem")
    add("--called", help="the name of --ours in these files, such as that of an earlier form")
    add("--kept", type=Path, metavar="FOLDER", help="run nothing: print the tables of its files")
    return parser


@dataclass(frozen=True)
class Recommended:
    """What recommendations are judged on."""

    problems: Sequence[str]
    seeds: range


@dataclass(frozen=True)
class Plan:
    """What is to be run, defaults filled in."""

    parts: Sequence[str]
    problems: Sequence[str]
    peers: Sequence[str]
    ours: str
    """The peer with which the others are compared."""
    first_seed: int
    seeds: Mapping[str, int]
    """``training`` and ``formulas_and_tables`` -> how many."""
    studies: Sequence[str]
    """Of the product, to be compared with their defaults; empty for all."""
    study_seeds: range
    trials: int | None
    sizes: tuple[int, ...]
    evaluate: float
    """Share of the clients that evaluate, where few do."""
    noise: Sequence[float]
    """Multiples of the noise, each for all problems."""
    workers: int
    torch_python: str | None
    recommend: Recommended

    @classmethod
    def of(cls, given: argparse.Namespace) -> Plan:
        """From the options and the pre-registration.

        Raises:
            UsageError: a value is out of range or a name unknown.
        """
        for name in ("seeds", "trials", "workers"):
            value = getattr(given, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value} is too few: give 1 or more")
        if not 0 < given.evaluate < 1:
            raise UsageError(f"--evaluate {given.evaluate:g} is no share: give one between 0 and 1")
        for factor in given.noise:
            if not 0 <= factor < math.inf:
                raise UsageError(f"--noise {factor:g} is no multiple: give a number from 0 on")
        registered = tomllib.loads(PREREGISTRATION.read_text())
        chosen = registered["development" if given.development else "judged"]
        recommend = chosen["recommend"]
        first = recommend["first_seed"] if given.first_seed is None else given.first_seed
        count = given.seeds or (2 if given.small else recommend["seeds"])
        seeds = registered["judged"]["seeds"]
        if given.seeds or given.small:
            seeds = dict.fromkeys(seeds, given.seeds or 2)
        peers = [entry.name for entry in chosen_peers(given.peer)]
        (ours,) = chosen_peers([given.ours])
        problems = given.problem or (["tnk", "c2-dtlz2"] if given.small else chosen["problems"])
        if trained := [name for name in problems if given.noise and is_training(name)]:
            raise UsageError(f"--noise is for formulas and tables, and {trained[0]} trains: leave "
                             "it out; --part few-clients makes real training noisy")  # fmt: skip
        if given.small:
            parts = given.part or ["fronts", "wrong", "asks"]
        else:
            parts = given.part or (["fronts"] if given.problem or given.peer else list(PARTS))
        if given.noise and "fronts" not in parts:
            raise UsageError(
                "--noise acts in the part fronts alone: add --part fronts, or leave it out"
            )
        return cls(
            parts=parts,
            problems=problems,
            peers=peers,
            ours=ours.name,
            first_seed=chosen["first_seed"] if given.first_seed is None else given.first_seed,
            seeds=seeds,
            studies=given.study,
            study_seeds=range(from_seed := given.first_seed or 0, from_seed + (given.seeds or 1)),
            trials=given.trials or (12 if given.small else None),
            sizes=(50, 200) if given.small else (200, 1000, 5000),
            evaluate=given.evaluate,
            noise=given.noise or [1.0],
            workers=given.workers,
            torch_python=given.torch_python,
            recommend=Recommended(
                given.problem or recommend["problems"], range(first, first + count)
            ),
        )

    def seeds_of(self, problem: str) -> range:
        """The paired seeds of a problem; fewer where only formulas and tables are asked."""
        kind = "training" if is_training(problem) else "formulas_and_tables"
        return range(self.first_seed, self.first_seed + self.seeds[kind])


def is_training(problem: str) -> bool:
    """Whether a problem of ours trains models."""
    return (STUDIES / f"{problem}.toml").exists()
