"""The command line: runs the parts of a plan and prints their tables."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fieldtune.profiles.common.errors import DataError, FieldtuneError, UsageError
from tuner.asks import ask_costs
from tuner.defaults import STUDIES as PRODUCT_STUDIES
from tuner.defaults import Gain, gains
from tuner.experiment import Job, Outcome, Variation, Workers
from tuner.kept import keep, keep_gains, read, read_gains
from tuner.peers import OURS, WARM
from tuner.plan import PARTS, PREREGISTRATION, Plan, arguments, is_training
from tuner.product_report import defaults_summary, defaults_table, recommend_table
from tuner.recommend import TRIALS as RECOMMEND_TRIALS
from tuner.recommend import Verdict, judge
from tuner.registry import make_problem
from tuner.report import (
    by_peer,
    curve_table,
    device_time_line,
    few_clients_table,
    fronts_table,
    warm_table,
    wrong_table,
)
from tuner.warm import has_related

BASE = "random+filter"
"""Gains are counted over this peer: random search that knows the formulas."""

WITH_FORMULAS = (BASE, "tpe+filter", "botorch", OURS)


class Run:
    """Carries out a plan and prints as it goes."""

    def __init__(
        self,
        plan: Plan,
        console: Console,
        workers: Workers,
        kept_in: Path | None = None,
        called: str | None = None,
    ) -> None:
        self._plan, self._console, self._workers = plan, console, workers
        self._keep, self._called = kept_in, called or plan.ours
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
        for problem, noise in itertools.product(self._plan.problems, self._plan.noise):
            found = self._compare([problem], [Variation(noise=noise)], self._plan.peers)
            if not found:
                continue
            runs, title = by_peer(found), _title(problem, found[0].variation)
            self._console.print(fronts_table(title, runs, self._plan.ours))
            self._console.print(curve_table(title, runs))
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
            for seed in self._plan.study_seeds:
                try:
                    found = list(
                        gains(file, seed=seed, trials=self._plan.trials, workers=self._plan.workers)
                    )
                except (DataError, RuntimeError) as why:
                    self._say(f"{file.stem} is left out: {why}")
                    continue
                if self._keep:
                    keep_gains(found, self._keep)
                self.gains += found
        if self.gains:
            print_gains(self.gains, self._console)

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
            if self._keep:  # at once, so that a run that is stopped has not been in vain
                keep(outcomes, self._keep, ours=self._plan.ours, called=self._called)
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
    for kind in dict.fromkeys((each.problem, each.variation) for each in outcomes):
        runs = by_peer(each for each in outcomes if (each.problem, each.variation) == kind)
        console.print(fronts_table(_title(*kind), runs, ours))
        console.print(curve_table(_title(*kind), runs))


def print_kept_gains(folder: Path, studies: Sequence[str], console: Console) -> None:
    """The tables of raw outcomes of the part ``defaults``.

    Raises:
        UsageError: there are none.
        DataError: a file is damaged.
    """
    found = read_gains(sorted(folder.glob("*.jsonl.gz")))
    chosen = [each for each in found if not studies or each.study in studies]
    if not chosen:
        raise UsageError(f"--kept {folder} holds no gains of these studies: name a folder that "
                         "--part defaults --keep has filled")  # fmt: skip
    print_gains(chosen, console)


def print_gains(gains: Sequence[Gain], console: Console) -> None:
    """What each recommendation gained, and what each study did."""
    console.print(defaults_table(gains))
    console.print(defaults_summary(gains))


def _title(problem: str, variation: Variation) -> str:
    """A problem's name, with its noise where that is changed."""
    return problem if variation.noise == 1.0 else f"{problem}, noise x {variation.noise:g}"


def main(argv: Sequence[str]) -> int:
    """Run; 0, or the exit code of what was wrong."""
    given = arguments().parse_args(argv)
    sys.path.append(str(Path.cwd()))  # for package.module:Class
    console = Console(width=int(os.environ.get("COLUMNS", "150")))
    try:
        if given.kept and given.part == ["defaults"]:
            print_kept_gains(given.kept, given.study, console)
            return 0
        if given.kept:
            print_kept(given.kept, given.problem, given.ours, console)
            return 0
        plan = Plan.of(given)
        console.print(PREREGISTRATION.read_text(), highlight=False, markup=False)
        with Workers(plan.workers) as workers:
            run = Run(plan, console, workers, given.keep, given.called)
            run.everything()
    except FieldtuneError as wrong:
        print(wrong, file=sys.stderr)
        return wrong.exit_code
    if given.json:
        kept = {"outcomes": run.outcomes, "gains": run.gains, "verdicts": run.verdicts}
        given.json.write_text(json.dumps(kept, default=dataclasses.asdict, indent=1))
    return 0
