"""What a study shows while it works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fieldtune.server.front import non_dominated
from fieldtune.server.study import StudyConfig
from fieldtune.server.trials import Completed, Failed, Infeasible, Outcome


class Observer(Protocol):
    """Is told what the coordinator does."""

    def round_started(self, trial: int, number: int) -> None:
        """A round, or the evaluation that follows the last one, was sent out."""

    def told(self, outcome: Outcome) -> None:
        """A trial ended."""


class ProgressDisplay:
    """Progress on stderr: a live bar on a terminal, a line a trial elsewhere.

    Args:
        study: what is run.
        history: outcomes of earlier sessions.
        console: on stderr.
    """

    def __init__(self, study: StudyConfig, history: Sequence[Outcome], console: Console) -> None:
        self._study, self._console = study, console
        self._completed = [outcome for outcome in history if isinstance(outcome, Completed)]
        self._done = sum(not isinstance(outcome, Infeasible) for outcome in history)
        self._ruled_out = len(history) - self._done
        self._rounds: dict[int, int] = {}
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TextColumn("{task.fields[rounds]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            study.study.name, total=study.study.trials, completed=self._done, rounds=""
        )

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def round_started(self, trial: int, number: int) -> None:
        """Show which round each trial in flight is in."""
        self._rounds[trial] = number
        rounds = self._study.study.rounds
        shown = "  ".join(
            f"#{name} {'evaluating' if done == rounds else f'round {done + 1}/{rounds}'}"
            for name, done in sorted(self._rounds.items())
        )
        self._bar.update(self._task, rounds=shown)

    def told(self, outcome: Outcome) -> None:
        """Say what came of a trial, and how the front stands."""
        self._rounds.pop(outcome.proposal.number, None)
        if isinstance(outcome, Infeasible):
            self._ruled_out += 1
            return
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        if isinstance(outcome, Failed):
            self._say(f"trial {outcome.proposal.number} failed: {outcome.reason}")
            return
        self._completed.append(outcome)
        front = non_dominated(self._study, [o for o in self._completed if o.forecast.feasible])
        values = ", ".join(f"{name} {value:.4g}" for name, value in outcome.objectives.items())
        first = next(iter(front[0].objectives.items())) if front else ("", 0.0)
        self._say(
            f"trial {outcome.proposal.number:>3}: {values} · front {len(front)} points, "
            f"best {first[0]} {first[1]:.4g} · {self._done}/{self._study.study.trials}"
            + (f", {self._ruled_out} ruled out" if self._ruled_out else "")
        )

    def _say(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, soft_wrap=True)
