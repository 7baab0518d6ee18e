"""The state of a training without rounds (:mod:`~fieldtune.server.federation.asynchronous`).

It holds the open requests with the versions of the model that they began with, the updates that
wait to move the model, and the counts of the current round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fieldtune.client.contract.messages import TrainReport, TrainRequest, Weights
from fieldtune.server.federation.aggregation import server_optimizer
from fieldtune.server.federation.exchange import Answers, State
from fieldtune.server.federation.local_training import (
    failure_of,
    note_losses,
    note_time,
    screen,
    train_requests,
)
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.selectors import selector_of
from fieldtune.server.federation.server_optimizer import Update
from fieldtune.server.federation.tally import LOST, NothingLearnedError, Tally, is_lost
from fieldtune.server.study.private_averaging import private_averaging
from fieldtune.server.study.settings import Algorithm, server_settings

_FEWEST = 3
"""Clients of which an update must be known before the first one moves the model."""


def staleness_weight(staleness: int, exponent: float) -> float:
    """How much an update counts that began so many updates of the model ago."""
    return float((1.0 + staleness) ** -exponent)


def fresh(current: Weights, base: Weights, trained: Weights, weight: float) -> Weights:
    """A stale client's change, scaled and applied to the current weights (FedBuff)."""
    moved = current + weight * (trained.astype(np.float64) - base)
    return np.asarray(moved, np.float32)


def mixed(current: Weights, trained: Weights, weight: float) -> Weights:
    """``(1 - weight) current + weight trained`` (FedAsync)."""
    return fresh(current, current, trained, weight)


@dataclass(frozen=True)
class _Open:
    """A request that has not been answered."""

    number: int
    version: int
    """Updates of the model before it."""


class Course:
    """The state of a training without rounds."""

    def __init__(self, plan: Plan, resumed: State | None) -> None:
        settings = server_settings(plan.configuration)
        self.per_round = int(settings["clients_per_round"])
        self.concurrency = int(settings["concurrency"]) or self.per_round
        self.mixing = float(settings["mixing"]) if plan.server.mode == "async" else None
        self.buffer_size = int(settings["buffer_size"]) or self.per_round  # of usable updates
        if self.mixing is not None:
            self.buffer_size = 1
        self.exponent = float(settings["staleness_exponent"])
        self.patience_s = float(settings["deadline_s"]) or math.inf
        self.plan = plan
        self.algorithm = Algorithm.of(plan.configuration, plan.server)
        self.optimizer = server_optimizer(plan.server, plan.configuration)
        self.selector = selector_of(plan)
        self.weights, self.tally = plan.initial_weights, Tally(target=plan.target)
        self.asked = self.answered = self.version = 0
        self.open: dict[int, _Open] = {}
        self.models: dict[int, Weights] = {0: self.weights}
        """Version -> the weights that open requests began with, and the current ones."""
        self.buffer: list[tuple[int, TrainReport, int]] = []
        """Clients, their reports, and the versions that they began with."""
        self.usable: list[TrainReport] = []
        """Of the current round, without weights."""
        self.failed: list[str] = []
        """Kinds of failures in the current round that say something of the training."""
        self.curve: dict[int, dict[str, float]] = {}
        self.looked = 0
        """Rounds up to which the model has been evaluated."""
        self.again: list[int] = []
        """Clients whose requests were open in a stored state."""
        if resumed:
            self._restore(resumed)

    @property
    def done(self) -> int:
        """Completed rounds."""
        return self.answered // self.per_round

    def state(self) -> State:
        """To be stored."""
        models = {*(each.version for each in self.open.values()), self.version}
        models |= {version for _, _, version in self.buffer}
        return {
            "rounds": self.done,
            "counts": [self.asked, self.answered, self.version],
            "models": {str(version): self.models[version] for version in sorted(models)},
            "open": [[client, each.number, each.version] for client, each in self.open.items()],
            "buffer": [
                {"client": client, "version": version, "weights": report.weights,
                 "report": report.scalars()}
                for client, report, version in self.buffer
            ],
            "usable": [report.scalars() for report in self.usable],
            "failed": list(self.failed),
            "optimizer": self.optimizer.state(),
            "selector": self.selector.state(),
            "tally": self.tally.state(),
            "looked": self.looked,
            "curve": {str(rounds): measures for rounds, measures in self.curve.items()},
        }  # fmt: skip

    def _restore(self, state: State) -> None:
        self.asked, self.answered, self.version = state["counts"]
        self.models = {int(version): each for version, each in state["models"].items()}
        self.weights = self.models[self.version]
        self.open = {client: _Open(number, version) for client, number, version in state["open"]}
        self.again = list(self.open)
        self.buffer = [
            (each["client"], TrainReport.parse(each["report"], each["weights"]), each["version"])
            for each in state["buffer"]
        ]
        self.usable = [TrainReport.parse(each) for each in state["usable"]]
        self.failed = [kind for kind in state["failed"] if kind not in LOST]
        self.optimizer.restore(state["optimizer"])
        self.selector.restore(state["selector"])
        self.tally = Tally.of(self.plan, state["tally"])
        self.looked = state["looked"]
        self.curve = {int(rounds): measures for rounds, measures in state["curve"].items()}

    def ask(self, clients: Iterable[int]) -> None:
        """Open requests to these clients."""
        for client in clients:
            self.open[client] = _Open(self.asked // self.per_round, self.version)
            self.again.append(client)
            self.asked += 1

    def requests(self) -> dict[int, TrainRequest]:
        """The requests that are to be sent."""
        again, self.again = self.again, []
        asked = ((client, self.open[client]) for client in again)
        return train_requests(
            self.plan,
            ((client, each.number, self.models[each.version], self.plan.configuration)
             for client, each in asked),
            self.tally.memory,
        )  # fmt: skip

    def take(self, answers: Answers) -> bool:
        """Use reports; False where the training has diverged."""
        self.tally.take(answers)
        for client, report in answers.items():
            each = self.open.pop(client)
            self.answered += 1
            algorithm, base = self.algorithm, self.models[each.version]
            report = self.tally.memory.accepted(algorithm, client, base, report)
            deadline_s = self.plan.deadline_s.get(client)
            failure = failure_of(report, deadline_s, self.weights, algorithm)
            if failure:
                if not is_lost(failure, report):
                    self.failed.append(failure)
                self.tally.failures[failure] += 1
            elif isinstance(report, TrainReport):
                self.usable.append(report.model_copy(update={"weights": None}))
                self.buffer.append((client, report, each.version))
                self.selector.learn(each.number, client, report)
            while len(self.buffer) >= self.buffer_size and self._comparable:
                if not self.update():
                    return False
        return True

    @property
    def _comparable(self) -> bool:
        """Whether there are updates of enough clients to tell which of them is far too large.

        It is not waited for more than two rounds: others may have none to give.
        """
        screened = self.plan.server.clip and not private_averaging(self.plan.configuration)
        if not screened or self.answered >= 2 * self.per_round:
            return True
        known = {*self.tally.norms, *(str(client) for client, _, _ in self.buffer)}
        there = self.plan.situation.there(self.plan.participants)
        return len(known) >= min(_FEWEST, len(there))

    def update(self) -> bool:
        """Move the model by the buffer's first updates; False where it is not finite any more."""
        layers: list[dict[int, TrainReport]] = []
        """Client -> report; a client that has come several times is in as many of them."""
        for client, report, version in self.buffer[: self.buffer_size]:
            layer = next((each for each in layers if client not in each), None)
            if layer is None:
                layers.append(layer := {})
            layer[client] = report.model_copy(update={"weights": self._applied(report, version)})
        for client, report, version in self.buffer[self.buffer_size :]:
            moved = self._applied(report, version).astype(np.float64) - self.weights
            self.tally.norms.setdefault(str(client), [float(np.linalg.norm(moved))])
        for layer in layers:
            of_all = dict.fromkeys(layer, self.plan.configuration)
            screen(self.plan, self.weights, layer, of_all, self.tally)
        updates = [
            Update(each.weights, each.samples, each.start_loss)
            for layer in layers
            for each in layer.values()
            if each.weights is not None
        ]
        proposed = self.optimizer.step(self.weights, updates) if updates else self.weights
        if not np.isfinite(proposed).all():
            self.tally.failures["diverged"] += 1
            return False
        self.tally.updates += len(updates)
        note_time(self.plan, self.tally)
        self.buffer = self.buffer[self.buffer_size :]
        self.weights, self.version = proposed, self.version + 1
        used = {self.version - 1, *(each.version for each in self.open.values())}
        used |= {version for _, _, version in self.buffer}
        self.models = {v: model for v, model in self.models.items() if v in used}
        self.models[self.version] = proposed
        return True

    def _applied(self, report: TrainReport, version: int) -> Weights:
        """The current weights, moved by one update that began with a version of the model."""
        assert report.weights is not None
        weight = staleness_weight(self.version - version, self.exponent)
        if self.mixing is not None:
            return mixed(self.weights, report.weights, self.mixing * weight)
        if version == self.version:
            return report.weights
        return fresh(self.weights, self.models[version], report.weights, weight)

    def end_round(self, answers: Answers) -> bool:
        """Whether training goes on after a round.

        Raises:
            NothingLearnedError: nothing of it was usable, and not because results were lost.
        """
        usable, failed, self.usable, self.failed = self.usable, self.failed, [], []
        note_losses(self.tally, usable)
        if usable or not failed:
            return True
        if "diverged" in failed:
            return False
        raise NothingLearnedError(self.tally.failures, answers.values())
