"""Federated averaging: one training from initial weights to the final evaluation.

:func:`federated_averaging` is a generator. It yields requests by client and receives the reports
with ``send``; it does not know how messages are transported. So the tuning loop can run several
trainings at the same time.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    VariantRequest,
    Weights,
)
from fieldtune.server.federation.metrics import between_clients, from_counts, without_outliers
from fieldtune.server.federation.robust import aggregation, clipped
from fieldtune.server.federation.server_optimizer import ServerOptimizer
from fieldtune.server.outcomes.trial import Choice, Learned
from fieldtune.server.study.config import ServerSection
from fieldtune.server.study.settings import client_settings, server_settings
from fieldtune.server.study.space import Configuration

Request = TrainRequest | EvaluateRequest | VariantRequest
Report = TrainReport | EvaluateReport
Exchange = Mapping[int, Request]
"""Client -> request."""
Answers = Mapping[int, Report]
"""Client -> report; one for each client of the exchange."""
GoesOn = Callable[[int, Mapping[str, float]], bool]
"""``(completed rounds, measures after them) -> whether training continues``."""
State = Mapping[str, Any]
"""The state of a training between two exchanges, as nested mappings of JSON values and arrays."""
Keep = Callable[[State], None]
"""Stores the state after a round. A training that is given it continues with the next round, and
its result has the same bits as without the interruption."""


@dataclass(frozen=True)
class Plan:
    """The input of one training."""

    trial: int
    configuration: Configuration
    artefact: str
    hyperparameters: Sequence[str]
    """Names of the hyperparameter inputs of the artefact's train signature."""
    initial_weights: Weights
    participants: Sequence[int]
    classes: int
    """0 where the model reconstructs its input."""
    rounds: int
    metric: str
    deadline_s: Mapping[int, float]
    """Client -> time limit of its training in one round, in seconds; absent where there is none."""
    seed: int
    rungs: Sequence[int] = ()
    """Rounds after which all participants evaluate, and ``goes_on`` decides on early stopping."""
    goes_on: GoesOn = lambda rounds, measures: True
    server: ServerSection = field(default_factory=ServerSection)
    on_clipped: Callable[[int, int, float], None] = lambda client, round, times: None
    """Called with the norm of an update that was scaled down, as a multiple of the median."""


class NothingLearnedError(Exception):
    """No client returned a usable result.

    Args:
        failures: kind of failure -> count.
        reports: of the last exchange; the first detail among them becomes part of the message.
    """

    def __init__(self, failures: Counter[str], reports: Iterable[Report]) -> None:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in failures.most_common())
        detail = next((report.detail for report in reports if report.detail), "")
        super().__init__(f"no client returned a result ({kinds}){detail and ': ' + detail}")
        self.failures = failures


@dataclass
class Tally:
    """Counts failures and device time over a training; keeps norms of updates and losses."""

    failures: Counter[str] = field(default_factory=Counter)
    device_s: float = 0.0
    simulated: bool = False
    norms: dict[str, list[float]] = field(default_factory=dict)
    """Client hyperparameters -> norms of the updates so far, for clipping."""
    losses: list[float] = field(default_factory=list)
    """Of each round so far, the median client's mean loss in its last local epoch."""

    @classmethod
    def of(cls, state: State) -> Tally:
        """The tally of a stored state."""
        return cls(
            Counter(state["failures"]),
            state["device_s"],
            state["simulated"],
            # Absent in checkpoints of versions that did not keep them.
            state.get("norms", {}),
            state.get("losses", []),
        )

    def state(self) -> State:
        """To be stored."""
        return {
            "failures": dict(self.failures),
            "device_s": self.device_s,
            "simulated": self.simulated,
            "norms": self.norms,
            "losses": self.losses,
        }

    def take(self, answers: Answers) -> None:
        """Add the device time of one exchange."""
        for client in sorted(answers):
            self.device_s += answers[client].wall_s or 0.0
            self.simulated = self.simulated or answers[client].simulated


@dataclass(frozen=True)
class LocallyTrained:
    """The local trainings of one round; each client is in ``usable`` or in ``failed``."""

    usable: Mapping[int, TrainReport]
    failed: Mapping[int, str]
    """Client -> kind of failure."""
    answers: Answers

    @property
    def updates(self) -> list[tuple[Weights, int]]:
        """Weights and samples of the usable ones, by client."""
        return [
            (report.weights, report.samples)
            for report in self.usable.values()
            if report.weights is not None
        ]


def federated_averaging(
    plan: Plan, resumed: State | None = None, keep: Keep = lambda state: None
) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
    """Rounds of local training and averaging, then one evaluation by all participants.

    At a rung all participants evaluate too; if early stopping then ends the training, that is its
    final evaluation.

    A client whose training diverged or missed the deadline is left out of the average of its round.
    If no client's training is usable and one diverged, training ends and the last finite weights
    are evaluated: a learning rate that is too high gives a bad result, not a failed trial.

    Args:
        plan: of the training.
        resumed: the state to continue from.
        keep: stores the state after each round, and after the evaluation at a rung.

    Raises:
        NothingLearnedError: no client could train or evaluate.
    """
    optimizer, weights, tally = server_optimizer(plan), plan.initial_weights, Tally()
    done, curve = 0, dict[int, dict[str, float]]()
    if resumed:
        optimizer.restore(resumed["optimizer"])
        weights, tally, done = resumed["weights"], Tally.of(resumed["tally"]), resumed["rounds"]
        curve = {int(rounds): measures for rounds, measures in resumed["curve"].items()}

    def store() -> None:
        keep(
            {
                "rounds": done,
                "weights": weights,
                "optimizer": optimizer.state(),
                "tally": tally.state(),
                "curve": {str(rounds): measures for rounds, measures in curve.items()},
            }
        )

    while done < plan.rounds:
        if done in plan.rungs and done not in curve:
            answers = yield evaluate_requests(plan, done, weights)
            measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
            curve[done] = measures
            if not plan.goes_on(done, measures):
                return weights, learned(tally, measures, samples, done, curve, stopped=True)
            store()
        configurations = dict.fromkeys(round_clients(plan, done), plan.configuration)
        trained = yield from train_locally(plan, done, weights, configurations, tally)
        if not trained.usable:
            if tally.failures["diverged"]:
                break
            raise NothingLearnedError(tally.failures, trained.answers.values())
        proposed = optimizer.step(weights, trained.updates)
        if not np.isfinite(proposed).all():
            tally.failures["diverged"] += 1
            break
        weights, done = proposed, done + 1
        store()

    answers = yield evaluate_requests(plan, plan.rounds, weights)
    measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
    return weights, learned(tally, measures, samples, done, curve)


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
        measures=measures,
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


def server_optimizer(plan: Plan) -> ServerOptimizer:
    """The server optimizer with the settings of a plan's configuration."""
    server = server_settings(plan.configuration)
    return ServerOptimizer(
        float(server["server_learning_rate"]),
        float(server["server_momentum"]),
        aggregation(plan.server),
    )


def round_clients(plan: Plan, number: int) -> list[int]:
    """The clients of a round, sampled without replacement, in ascending order."""
    rng = np.random.default_rng([plan.seed, number])
    count = int(server_settings(plan.configuration)["clients_per_round"])
    count = min(count, len(plan.participants))
    return sorted(int(c) for c in rng.choice(plan.participants, size=count, replace=False))


def train_locally(
    plan: Plan,
    number: int,
    weights: Weights,
    configurations: Mapping[int, Configuration],
    tally: Tally,
) -> Generator[Exchange, Answers, LocallyTrained]:
    """Each client trains the given weights with its configuration, as one exchange."""
    answers = yield {
        client: _train_request(plan, number, client, weights, configuration)
        for client, configuration in configurations.items()
    }
    tally.take(answers)
    usable, failed = dict[int, TrainReport](), dict[int, str]()
    for client in configurations:
        report = answers[client]
        failure = _failure(report, plan.deadline_s.get(client), weights)
        if failure:
            failed[client] = failure
            tally.failures[failure] += 1
        elif isinstance(report, TrainReport):
            usable[client] = report
    losses = [
        report.loss
        for report in usable.values()
        if report.loss is not None and math.isfinite(report.loss)
    ]
    if losses:
        tally.losses.append(median(losses))
    if plan.server.clip:
        _clip(plan, weights, configurations, usable, tally)
    return LocallyTrained(usable, failed, answers)


def _clip(
    plan: Plan,
    weights: Weights,
    configurations: Mapping[int, Configuration],
    usable: dict[int, TrainReport],
    tally: Tally,
) -> None:
    """Scale down the updates in ``usable`` that are far larger than the others."""
    groups = {client: json.dumps(configurations[client].client) for client in usable}
    updates = {c: each.weights for c, each in usable.items() if each.weights is not None}
    found = clipped(weights, updates, groups, tally.norms)
    for client, (smaller, times) in found.items():
        usable[client] = usable[client].model_copy(update={"weights": smaller})
        plan.on_clipped(client, usable[client].round, times)


def _train_request(
    plan: Plan, number: int, client: int, weights: Weights, configuration: Configuration
) -> TrainRequest:
    settings = client_settings(configuration)
    names = tuple(name for name in plan.hyperparameters if name != "seed")
    return TrainRequest(
        trial=plan.trial,
        round=number,
        artefact=plan.artefact,
        weights=weights,
        seed=int(np.random.SeedSequence([plan.seed, number, client]).generate_state(1)[0]),
        batch_size=int(settings["batch_size"]),
        local_epochs=int(settings["local_epochs"]),
        hyperparameter_names=names,
        hyperparameter_values=tuple(float(settings[name]) for name in names),
    )


def evaluate_requests(plan: Plan, rounds: int, weights: Weights) -> Exchange:
    """Requests to all participants to evaluate the weights after ``rounds`` rounds."""
    return dict.fromkeys(plan.participants, evaluate_request(plan, rounds, weights))


def evaluate_request(plan: Plan, number: int, weights: Weights) -> EvaluateRequest:
    """A request to evaluate these weights on the client's test data."""
    return EvaluateRequest(
        trial=plan.trial,
        round=number,
        artefact=plan.artefact,
        weights=weights,
        metric=plan.metric,
    )


def _failure(report: Report, deadline_s: float | None, weights: Weights) -> str | None:
    """The kind of failure of a training report, or None; the client's own claim is not trusted."""
    if report.failure:
        return report.failure
    if not isinstance(report, TrainReport) or report.weights is None or report.samples == 0:
        return "error"
    if report.weights.shape != weights.shape:
        return "error"
    if not np.isfinite(report.weights).all():
        return "diverged"
    if deadline_s is not None and (report.wall_s or 0.0) > deadline_s:
        return "deadline"
    return None


def inconsistent(report: EvaluateReport, classes: int) -> str | None:
    """Why an evaluation cannot be used, or None: its counts must match its samples and classes."""
    if not np.isfinite(report.loss_sum):
        return f"its loss is {report.loss_sum}"
    if report.value is not None and not np.isfinite(report.value):
        return f"its metric is {report.value}"
    counts = (report.hits, report.predicted, report.actual)
    counted = report.samples if classes else 0
    if (
        all(len(count) == classes and min(count, default=0) >= 0 for count in counts)
        and sum(report.actual) == sum(report.predicted) == counted
        and all(hit <= min(p, a) for hit, p, a in zip(*counts, strict=True))
    ):
        return None
    return "its counts do not add up"


def evaluation(
    answers: Answers, classes: int, metric: str, failures: Counter[str]
) -> tuple[dict[str, float], int]:
    """Measures over the test samples of all clients with a usable report, and the sample count.

    Without classes (``classes`` is 0: the model reconstructs its input) the measures are the loss
    and, if the metric is the user's own function, the metric and its error. Where there is an
    error, its distribution over the clients is measured too
    (:func:`~fieldtune.server.federation.metrics.between_clients`).

    Raises:
        NothingLearnedError: no report is usable.
    """
    usable, others = list[EvaluateReport](), list[Report]()
    for client in sorted(answers):
        report = answers[client]
        if report.failure or not isinstance(report, EvaluateReport):
            failures[report.failure or "error"] += 1
            others.append(report)
        elif reason := inconsistent(report, classes):
            failures["error"] += 1
            others.append(report.model_copy(update={"detail": reason}))
        elif report.samples:
            usable.append(report)
    if not usable:
        raise NothingLearnedError(failures, others)
    samples = sum(report.samples for report in usable)
    counts = [
        np.sum([getattr(report, name) for report in usable], axis=0)
        for name in ("hits", "predicted", "actual")
    ]
    measures = from_counts(*counts) if classes else {}
    measures["loss"] = sum(report.loss_sum for report in usable) / samples
    if metric not in measures and (classes or ":" in metric):
        weighed = [(r.value, r.weight) for r in usable if r.value is not None and r.weight]
        if ":" in metric:  # its range is not known
            weighed = without_outliers(weighed)
        total = sum(weight for _, weight in weighed)
        measures["metric" if ":" in metric else metric] = (
            sum(value * weight for value, weight in weighed) / total if total else 0.0
        )
    if metric in measures:
        measures["metric"] = measures[metric]
    if "metric" in measures:
        measures["error"] = 1 - measures["metric"]
        own = [each for report in usable for each in client_metric(report, metric)]
        if ":" in metric:
            own = without_outliers(own)
        if own:
            values, weights = zip(*own, strict=True)
            measures |= between_clients([1 - value for value in values], weights)
    return measures, samples


def client_metric(report: EvaluateReport, metric: str) -> list[tuple[float, float]]:
    """``(metric, weight)`` of a single client; empty where its report does not give them."""
    if report.value is not None:
        return [(report.value, report.weight)] if report.weight else []
    if not report.hits:
        return []
    counts = [np.array(count) for count in (report.hits, report.predicted, report.actual)]
    alone = from_counts(*counts)
    return [(alone[metric], report.samples)] if metric in alone else []
