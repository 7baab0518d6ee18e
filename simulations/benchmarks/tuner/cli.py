"""The command line: which parts to run, on what, with whom."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fieldtune.profiles.common.errors import DataError, FieldtuneError, UsageError
from tuner.asks import ask_costs
from tuner.defaults import STUDIES as PRODUCT_STUDIES
from tuner.defaults import Gain, gains
from tuner.experiment import Job, Outcome, Variation, Workers
from tuner.kept import keep, read
from tuner.peers import OURS, WARM, chosen_peers
from tuner.recommend import TRIALS as RECOMMEND_TRIALS
from tuner.recommend import Verdict, judge
from tuner.registry import STUDIES, make_problem
from tuner.report import (
    by_peer,
    curve_table,
    defaults_table,
    device_time_line,
    few_clients_table,
    fronts_table,
    recommend_table,
    warm_table,
    wrong_table,
)
from tuner.warm import has_related

PREREGISTRATION = Path(__file__).with_name("preregistration.toml")
PARTS = ("fronts", "wrong", "few-clients", "warm-start", "asks", "defaults", "recommend")
BASE = "random+filter"
"""Gains are counted over this peer: random search that knows the formulas."""

WITH_FORMULAS = (BASE, "tpe+filter", "botorch", OURS)


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
    add("--small", action="store_true", help="a minute's worth, to see that all works")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    add("--torch-python", help="an interpreter with torch, optuna and botorch, for gp and botorch")
    add("--json", type=Path, help="where to write every outcome")
    add("--keep", type=Path, metavar="FOLDER", help="add raw outcomes to its files, one a problem")
    add("--called", help="the name of --ours in these files, such as that of an earlier form")
    add("--kept", type=Path, metavar="FOLDER", help="run nothing: print the tables of its files")
    return parser


@dataclasses.dataclass(frozen=True)
class Recommended:
    """What recommendations are judged on."""

    problems: Sequence[str]
    seeds: range


@dataclasses.dataclass(frozen=True)
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
    study_seeds: int
    trials: int | None
    sizes: tuple[int, ...]
    evaluate: float
    """Share of the clients that evaluate, where few do."""
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
        if given.small:
            parts = given.part or ["fronts", "wrong", "asks"]
        else:
            parts = given.part or (["fronts"] if given.problem or given.peer else list(PARTS))
        return cls(
            parts=parts,
            problems=problems,
            peers=peers,
            ours=ours.name,
            first_seed=chosen["first_seed"] if given.first_seed is None else given.first_seed,
            seeds=seeds,
            studies=given.study,
            study_seeds=given.seeds or 1,
            trials=given.trials or (12 if given.small else None),
            sizes=(50, 200) if given.small else (200, 1000, 5000),
            evaluate=given.evaluate,
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


class Run:
    """Carries out a plan and prints as it goes."""

    def __init__(self, plan: Plan, console: Console, workers: Workers) -> None:
        self._plan, self._console, self._workers = plan, console, workers
        self.outcomes: list[Outcome] = []
        self.gains: list[Gain] = []
        self.verdicts: list[Verdict] = []
        self._made: dict[str, bool] = {}

    def everything(self) -> None:
        """All parts, in order."""
        parts: dict[str, Callable[[], None]] = {
            "fronts": self.fronts,
            "wrong": self.wrong,
            "few-clients": self.few_clients,
            "warm-start": self.warm_start,
            "asks": self.asks,
            "defaults": self.defaults,
            "recommend": self.recommend,
        }
        for name in PARTS:
            if name in self._plan.parts:
                parts[name]()

    def fronts(self) -> None:
        """Every peer on every problem."""
        for problem in self._plan.problems:
            found = self._compare([problem], [Variation()], self._plan.peers)
            if not found:
                continue
            runs = by_peer(found)
            self._console.print(fronts_table(problem, runs, self._plan.ours))
            self._console.print(curve_table(problem, runs))
            self._say(device_time_line(runs, self._plan.ours))

    def wrong(self) -> None:
        """Formulas off by 30 %, with the peers that use them."""
        peers = [name for name in self._plan.peers if name in WITH_FORMULAS]
        problems = [name for name in self._plan.problems if name in _RESOURCES] or list(
            self._plan.problems[:1]
        )
        found = self._compare(
            problems, [Variation(error="low"), Variation(error="scattered")], peers, curve=False
        )
        if found:
            self._console.print(wrong_table(found))

    def few_clients(self) -> None:
        """Real training, evaluated on a few of the clients."""
        share = self._plan.evaluate
        for problem in self._plan.problems:
            if not is_training(problem) or self._left_to_digits(problem):
                continue
            whole = [
                o for o in self.outcomes if o.problem == problem and o.variation == Variation()
            ]
            peers = list(dict.fromkeys((BASE, *self._plan.peers)))
            missing = [name for name in peers if name not in {o.peer for o in whole}]
            if missing:
                whole += self._compare([problem], [Variation()], missing, curve=False)
            few = self._compare([problem], [Variation(evaluation_share=share)], peers, curve=False)
            if whole and few:
                everyone = by_peer(whole)
                self._console.print(few_clients_table(problem, everyone, by_peer(few), BASE, share))

    def _left_to_digits(self, problem: str) -> bool:
        """Of real training one problem is enough where several are run: each takes minutes."""
        return is_training(problem) and problem != "digits" and "digits" in self._plan.problems

    def warm_start(self) -> None:
        """Ours after earlier studies, related and not, against ours without."""
        for problem in self._plan.problems:
            if not has_related(problem) or self._left_to_digits(problem):
                continue
            found = self._compare([problem], [Variation()], [OURS, *(each.name for each in WARM)])
            if found:
                self._console.print(warm_table(problem, by_peer(found)))

    def asks(self) -> None:
        """CPU and memory of an ask."""
        table = Table(title="An ask, by finished trials", title_justify="left")
        for column in ("sampler", "trials", "CPU, median", "CPU, most", "kept by the sampler"):
            table.add_column(column, justify="left" if column == "sampler" else "right")
        for cost in ask_costs(make_problem("speed-reducer"), self._plan.sizes):
            table.add_row(
                cost.sampler,
                str(cost.trials),
                f"{cost.cpu_ms:.1f} ms",
                f"{cost.worst_ms:.1f} ms",
                f"{cost.kept_mib:.2f} MiB",
            )
        self._console.print(table)

    def defaults(self) -> None:
        """Tuned against default, on the studies of the product."""
        for file in sorted(PRODUCT_STUDIES.glob("*.toml")):
            if self._plan.studies and file.stem not in self._plan.studies:
                continue
            for seed in range(self._plan.study_seeds):
                try:
                    self.gains += gains(
                        file, seed=seed, trials=self._plan.trials, workers=self._plan.workers
                    )
                except (DataError, RuntimeError) as why:
                    self._say(f"{file.stem} is left out: {why}")
        if self.gains:
            self._console.print(defaults_table(self.gains))

    def recommend(self) -> None:
        """What is recommended, held against the truth."""
        plan = self._plan
        jobs = [
            (name, seed, plan.trials or RECOMMEND_TRIALS)
            for name in plan.recommend.problems
            for seed in plan.recommend.seeds
        ]
        self.verdicts = self._workers.map(judge, jobs)
        self._console.print(recommend_table(self.verdicts))

    def _compare(
        self,
        problems: Sequence[str],
        variations: Sequence[Variation],
        peers: Sequence[str],
        *,
        curve: bool = True,
    ) -> list[Outcome]:
        jobs = [
            Job(
                problem,
                variation,
                tuple(peers),
                seed,
                self._plan.trials,
                self._plan.torch_python,
                curve,
            )
            for problem in self._runnable(problems)
            for variation in variations
            for seed in self._plan.seeds_of(problem)
        ]
        found: list[Outcome] = []
        notes: dict[str, None] = {}
        for outcomes, why in self._workers.do(jobs):
            found += outcomes
            notes |= dict.fromkeys(why)
        for note in notes:
            self._say(note)
        self.outcomes += found
        return found

    def _runnable(self, problems: Sequence[str]) -> list[str]:
        """Those whose data is there; the others are named.

        Making one here compiles its models once, where every worker then finds them on disk.
        """
        runnable = []
        for name in problems:
            if name not in self._made:
                try:
                    self._made[name] = make_problem(name).reference is not None
                except DataError as why:
                    self._say(f"{name} is left out: {why}")
                    self._made[name] = False
            if self._made[name]:
                runnable.append(name)
        return runnable

    def _say(self, line: str) -> None:
        if line:
            self._console.print(line, highlight=False, soft_wrap=True)


_RESOURCES = ("nas-bench-201", "hpolib-naval", "hpolib-protein", "digits")
"""Problems whose limits are resources, of which formulas can be wrong."""


def print_kept(folder: Path, problems: Sequence[str], ours: str, console: Console) -> None:
    """The tables of raw outcomes.

    Raises:
        UsageError: there are none.
        DataError: a file is damaged.
    """
    files = sorted(folder.glob("*.jsonl.gz"))
    outcomes = [each for each in read(files) if not problems or each.problem in problems]
    if not outcomes:
        raise UsageError(f"--kept {folder} holds no outcomes of these problems: name a folder "
                         "that --keep has filled")  # fmt: skip
    for problem in dict.fromkeys(each.problem for each in outcomes):
        runs = by_peer(each for each in outcomes if each.problem == problem)
        console.print(fronts_table(problem, runs, ours))
        console.print(curve_table(problem, runs))


def main(argv: Sequence[str]) -> int:
    """Run; 0, or the exit code of what was wrong."""
    given = arguments().parse_args(argv)
    sys.path.append(str(Path.cwd()))  # for package.module:Class
    console = Console(width=int(os.environ.get("COLUMNS", "150")))
    try:
        if given.kept:
            print_kept(given.kept, given.problem, given.ours, console)
            return 0
        plan = Plan.of(given)
        console.print(PREREGISTRATION.read_text(), highlight=False, markup=False)
        with Workers(plan.workers) as workers:
            run = Run(plan, console, workers)
            run.everything()
    except FieldtuneError as wrong:
        print(wrong, file=sys.stderr)
        return wrong.exit_code
    if given.keep:
        keep(run.outcomes, given.keep, ours=plan.ours, called=given.called or plan.ours)
    if given.json:
        kept = {"outcomes": run.outcomes, "gains": run.gains, "verdicts": run.verdicts}
        given.json.write_text(json.dumps(kept, default=dataclasses.asdict, indent=1))
    return 0
