"""Evaluation of weights by the clients: requests, and measures over all their test samples."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import (
    MOST_CONFUSED,
    EvaluateReport,
    EvaluateRequest,
    Weights,
)
from fieldtune.server.federation.exchange import Answers, Exchange, Report
from fieldtune.server.federation.metrics import between_clients, from_counts, without_outliers
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.study.settings import client_settings
from fieldtune.server.study.space import Configuration

_PERSONAL_STREAM = 0x9E50
"""Separates the seed of personal steps from those of trainings."""
_CLIENTS_STREAM = 0xE7A1
"""The same for the draw of the clients that evaluate."""


def evaluate_requests(plan: Plan, rounds: int, weights: Weights) -> Exchange:
    """Requests to evaluate the weights after ``rounds`` rounds.

    To all participants; with ``server.evaluate_clients``, to so many of them, drawn anew each time.
    At a rung, where trials are compared, the draw is the same for all trials of the study.
    The interval of an error then widens by itself, since it is that over clients like these
    (:func:`~fieldtune.server.federation.metrics.between_clients`).
    """
    asked, most = plan.participants, plan.server.evaluate_clients
    if most is not None and most < len(asked):
        asked = _drawn(plan, rounds, most)
    return dict.fromkeys(asked, evaluate_request(plan, rounds, weights))


def _drawn(plan: Plan, rounds: int, count: int) -> list[int]:
    """The participants that evaluate after so many rounds, ascending."""
    clients = np.sort(plan.participants)
    if rounds in plan.rungs:
        # Each client has a number of its own, so trials with other participants share most of them.
        rng = np.random.default_rng([plan.study_seed, rounds, _CLIENTS_STREAM])
        chosen = clients[np.argsort(rng.random(clients[-1] + 1)[clients])[:count]]
    else:
        rng = np.random.default_rng([plan.seed, rounds, _CLIENTS_STREAM])
        chosen = rng.choice(plan.participants, size=count, replace=False)
    return [int(each) for each in np.sort(chosen)]


def evaluate_request(
    plan: Plan, number: int, weights: Weights, configuration: Configuration | None = None
) -> EvaluateRequest:
    """A request to evaluate these weights on the client's test data.

    Args:
        plan: of the training.
        number: of the round.
        weights: to evaluate.
        configuration: of the personal steps before it; None: the plan's.
    """
    configuration = configuration or plan.configuration
    settings, personal = client_settings(configuration), dict[str, Any]()
    if steps := int(settings["personal_steps"]):
        names = tuple(name for name in plan.hyperparameters if name != "seed")
        personal = {
            "personal_steps": steps,
            "seed": int(
                np.random.SeedSequence([plan.seed, number, _PERSONAL_STREAM]).generate_state(1)[0]
            ),
            "batch_size": int(settings["batch_size"]),
            "hyperparameter_names": names,
            "hyperparameter_values": tuple(float(settings[name]) for name in names),
        }
    return EvaluateRequest(
        trial=plan.trial,
        round=number,
        artefact=plan.artefact,
        weights=weights,
        metric=plan.metric,
        **personal,
    )


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
        and _agrees(report)
    ):
        return None
    return "its counts do not add up"


def _agrees(report: EvaluateReport) -> bool:
    """Whether a confusion matrix, if there is one, has the diagonal and the sums of the counts."""
    if report.confusion is None:
        return True
    classes = len(report.actual)
    if len(report.confusion) != classes**2 or not 0 < classes <= MOST_CONFUSED:
        return False
    if min(report.confusion) < 0 or max(report.confusion) > report.samples:
        return False
    matrix = np.array(report.confusion).reshape(classes, classes)
    sums = (matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1))
    counts = (report.hits, report.predicted, report.actual)
    return all(np.array_equal(*pair) for pair in zip(sums, counts, strict=True))


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
