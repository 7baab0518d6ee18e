"""What is counted over a training, and its result."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fieldtune.server.federation.client_memory import ClientMemory
from fieldtune.server.federation.exchange import Answers, Report, State
from fieldtune.server.federation.plan import Plan, Target
from fieldtune.server.federation.robust import Norms
from fieldtune.server.outcomes.trial import Choice, Learned

LOST = frozenset({"late", "surplus", "dropout", "lost_upload"})
"""Kinds of failures in which a client's result was lost, and nothing was wrong with its training:
``late`` came after the end of its round, ``surplus`` when enough others had come."""


def is_lost(kind: str, report: Report | None) -> bool:
    """Whether a failure says nothing of the training: a result was lost, or could not be made.

    That is so too where a simulation has drawn that a client's memory does not suffice, whatever it
    trains; what really runs out of memory is not marked as simulated.
    """
    drawn = kind == "out_of_memory" and report is not None and report.simulated
    return drawn or kind in LOST


class NothingLearnedError(Exception):
    """No client returned a usable result.

    Args:
        failures: kind of failure -> count.
        reports: of the last exchange; the first detail among them becomes part of the message.
        detail: without reports.
        in_time: False where the training's time was over.
    """

    def __init__(
        self,
        failures: Counter[str],
        reports: Iterable[Report],
        *,
        detail: str = "",
        in_time: bool = True,
    ) -> None:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in failures.most_common())
        detail = next((report.detail for report in reports if report.detail), detail)
        super().__init__(
            f"no client returned a result{'' if in_time else ' within limits.time_h'}"
            f"{kinds and f' ({kinds})'}{detail and ': ' + detail}"
        )
        self.failures = failures


@dataclass
class Tally:
    """Counts failures and device time over a training; keeps what later rounds need."""

    failures: Counter[str] = field(default_factory=Counter)
    device_s: float = 0.0
    for_simulated: int = 0
    """Reports that say that they are simulated, minus those that do not."""
    norms: Norms = field(default_factory=dict)
    """Client hyperparameters -> norms of the latest updates, for clipping; in a training without
    rounds, client -> that of its latest one."""
    losses: list[float] = field(default_factory=list)
    """Of each round so far, the median client's mean loss in its last local epoch."""
    opposition: dict[str, float] = field(default_factory=dict)
    """Client -> evidence that its updates point against the others'."""
    updates: int = 0
    """That were averaged."""
    time_s: float | None = None
    """Of the training until the latest update of the model, or until the first reports if there is
    none; None without a clock."""
    memory: ClientMemory = field(default_factory=ClientMemory)
    """What is kept of each client."""
    target: Target | None = None
    reached_s: float | None = None
    """When an evaluation first found the target error, by the time of the latest update."""

    @classmethod
    def of(cls, plan: Plan, state: State) -> Tally:
        """The tally of a stored state."""
        memory = ClientMemory()
        memory.restore(plan, state.get("memory", {}))
        norms = state.get("norms", {})
        if plan.server.mode != "sync":  # earlier versions kept them by hyperparameters here, too
            norms = {client: of for client, of in norms.items() if client.isdigit()}
        return cls(
            Counter(state["failures"]),
            state["device_s"],
            state.get("for_simulated", int(state["simulated"])),
            # Absent in checkpoints of versions that did not keep them.
            {group: array("d", each) for group, each in norms.items()},
            state.get("losses", []),
            state.get("opposition", {}),
            state.get("updates", 1),
            state.get("time_s"),
            memory,
            plan.target,
            state.get("reached_s"),
        )

    def state(self) -> State:
        """To be stored."""
        return {
            "failures": dict(self.failures),
            "device_s": self.device_s,
            "simulated": self.simulated,
            "for_simulated": self.for_simulated,
            "norms": self.norms,
            "losses": self.losses,
            "opposition": self.opposition,
            "updates": self.updates,
            "time_s": self.time_s,
            "memory": self.memory.state(),
            "reached_s": self.reached_s,
        }

    def timed(self, measures: Mapping[str, float]) -> dict[str, float]:
        """The measures of an evaluation, with those of time."""
        if self.time_s is None:
            return dict(measures)
        found = {**measures, "time_h": self.time_s / 3600}
        if self.target is not None and "error" in measures:
            if self.reached_s is None and measures["error"] <= self.target.error:
                self.reached_s = self.time_s
            reached = self.reached_s
            found["time_to_error_h"] = (
                self.target.unreached_h if reached is None else reached / 3600
            )
        return found

    def take(self, answers: Answers) -> None:
        """Add the device time of one exchange."""
        for client in sorted(answers):
            self.device_s += answers[client].wall_s or 0.0
            if not answers[client].failure:
                self.for_simulated += 1 if answers[client].simulated else -1

    @property
    def simulated(self) -> bool:
        """Whether most reports say that they are simulated: one device may claim anything."""
        return self.for_simulated > 0


def learned(
    tally: Tally,
    measures: Mapping[str, float],
    samples: int,
    rounds: int,
    curve: Mapping[int, Mapping[str, float]],
    *,
    stopped: bool = False,
    choice: Choice | None = None,
) -> Learned:
    """The result of a training."""
    return Learned(
        measures=tally.timed(measures),
        samples=samples,
        device_s=tally.device_s,
        failures=dict(tally.failures),
        simulated=tally.simulated,
        rounds=rounds,
        curve=curve,
        stopped=stopped,
        choice=choice,
        losses=tuple(tally.losses),
    )
