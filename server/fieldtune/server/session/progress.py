"""What a study shows while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from fieldtune.profiles.common.text import printable
from fieldtune.server.costs.budget import Budget
from fieldtune.server.outcomes.front import RunningFront
from fieldtune.server.outcomes.trial import Failed, Infeasible, Outcome, Stopped
from fieldtune.server.report.format import budget_used, counted, figure, phrase
from fieldtune.server.study.config import StudyConfig

_LONGEST_NAME = 24
"""Letters of the study's name in the bar."""
_WAIT_LINE_S = 5.0
"""From the start of a wait to the first line about it; each further pause is twice as long."""


class Observer(Protocol):
    """Is notified by the tuning loop."""

    def round_started(self, trial: int, number: int) -> None:
        """A round, or the evaluation that follows the last one, was sent out."""

    def trial_ended(self, outcome: Outcome) -> None:
        """A trial ended; its outcome was told to the tuner."""


class Display(Protocol):
    """Shows what the tuning loop does."""

    def round_started(self, trial: int, number: int) -> None:
        """A round, or the evaluation that follows the last one, was sent out."""

    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome]) -> None:
        """A trial ended; ``trials`` are all so far, re-evaluated with the latest calibration."""


class _Bar(Progress):
    """The bar, and below it what is waited for, in as many lines as it takes."""

    waits_for = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn."""
        yield from super().get_renderables()
        if self.waits_for:
            yield Text(self.waits_for)


class ProgressDisplay:
    """Progress on stderr: a live bar on a terminal, else one line per trial.

    Args:
        study: what is run.
        earlier: outcomes of earlier sessions.
        console: on stderr.
        clock: seconds; only differences count.
    """

    def __init__(
        self,
        study: StudyConfig,
        earlier: Sequence[Outcome],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._wait_line: tuple[float, float] | None = None
        """When the next line about a wait is due, and the pause after it in seconds."""
        self._study, self._console = study, console
        self._sent = [outcome for outcome in earlier if not isinstance(outcome, Infeasible)]
        self._budget, self._front = Budget(study.study), RunningFront(study)
        self._infeasible = len(earlier) - len(self._sent)
        self._rounds: dict[int, int] = {}
        self._began, self._done_before = clock(), len(self._sent)
        self._share_before = self._budget.share(len(self._sent), self._sent)
        self._bar = _Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("trials"),
            _PartsColumn("left", "rounds"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            _shortened(study.study.name),
            total=study.study.trials,
            completed=len(self._sent),
            rounds="starting",
            left="",
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
        done = " ".join(str(min(at + 1, rounds)) for _, at in sorted(self._rounds.items()))
        self._bar.update(self._task, rounds=f"rounds {done} of {rounds}")

    def waiting(self, sentence: str) -> None:
        """Show what is being waited for; an empty string ends the wait.

        On a terminal it is below the bar. Elsewhere it is a line after 5 s, and again after
        another 10 s, 20 s and so on, which keeps the log of a long wait short.
        """
        self._bar.waits_for = printable(sentence)
        if not sentence or self._console.is_terminal:
            self._wait_line = None
            return
        now = self._clock()
        self._wait_line = self._wait_line or (now + _WAIT_LINE_S, 2 * _WAIT_LINE_S)
        due, pause_s = self._wait_line
        if now >= due:
            self._wait_line = now + pause_s, 2 * pause_s
            self._say(sentence)

    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome]) -> None:
        """Print a trial's outcome, the size of the Pareto front and its best point."""
        self._rounds.pop(outcome.proposal.number, None)
        if isinstance(outcome, Infeasible):
            self._infeasible += 1
            return
        self._sent.append(outcome)
        self._bar.update(self._task, completed=len(self._sent))
        if isinstance(outcome, Failed):
            self._say(f"trial {outcome.proposal.number} failed: {outcome.reason}")
            return
        if isinstance(outcome, Stopped):
            names = [name for name in outcome.objectives if name in outcome.learned.measures]
            values = [_shown(name, outcome.objectives[name]) for name in names]
            self._say(
                f"trial {outcome.proposal.number:>3}: stopped after round {outcome.stopped_after} "
                f"of {self._study.study.rounds}, not among the best so far: {', '.join(values)} · "
                f"{self._so_far()}"
            )
            return
        front = self._front.of(trials)
        values = [_shown(name, value) for name, value in outcome.objectives.items()]
        best = _shown(*next(iter(front[0].objectives.items()))) if front else "none feasible"
        how = outcome.learned.choice or outcome.proposal.phase or "trained"
        self._say(
            f"trial {outcome.proposal.number:>3}: {', '.join(values)} · {how} · "
            f"front of {len(front)}, best {best} · {self._so_far()}"
        )

    def _so_far(self) -> str:
        """Used budget, number of infeasible proposals and, where no bar shows it, the time left."""
        accounts = self._budget.accounts(len(self._sent), self._sent)
        text = ", ".join(budget_used(account) for account in accounts)
        if self._study.study.trials is None:
            text = f"{counted(len(self._sent), 'trial')}, {text}"
        if self._infeasible:
            text += f", {self._infeasible} ruled out by limits"
        left = self._time_left(max(account.share for account in accounts))
        self._bar.update(self._task, left=left)
        return text if self._console.is_terminal or not left else f"{text}, {left}"

    def _time_left(self, share: float) -> str:
        """Estimated from the pace of this session."""
        finished = len(self._sent) - self._done_before
        if share >= 1 or finished < 3:  # finished, or too early to estimate
            return ""
        pace = (self._clock() - self._began) / (share - self._share_before)
        return f"{(1 - share) * pace:.0f} s left"

    def _say(self, line: str) -> None:
        # A terminal breaks lines anywhere; a log has them whole.
        whole = not self._console.is_terminal
        self._bar.console.print(printable(line), highlight=False, soft_wrap=whole, markup=False)


class _PartsColumn(ProgressColumn):
    """The parts of a task's state that fit, the most important first: none of them is cut."""

    def __init__(self, *fields: str) -> None:
        super().__init__()
        self._fields = fields

    def render(self, task: Task) -> _Parts:
        """The parts that are known."""
        return _Parts([str(task.fields[name]) for name in self._fields if task.fields[name]])


class _Parts:
    """Texts in one line, as many as there is room for."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = ""
        for part in self._parts:
            longer = f"{text} · {part}" if text else part
            if cell_len(longer) > options.max_width:
                break
            text = longer
        yield Text(text, no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, cell_len(" · ".join(self._parts)))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _shown(name: str, value: float) -> str:
    return f"{phrase(name)} {figure(name, value)}"
