"""FedEx: tuning client hyperparameters within one federated training, by sharing its weights.

Khodak et al. 2021 (arXiv 2106.04502), algorithm 2. Each client of a round trains the shared
weights with a configuration drawn from a distribution theta. By the validation error of what it
came to, theta moves in an exponentiated-gradient step. Step sizes and baseline are those of the
authors' code (github.com/mkhodak/FedEx). Beyond the paper, a client is only given what the limits
allow it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import EvaluateReport, Weights
from fieldtune.server.federation.fedavg import (
    Answers,
    Exchange,
    LocallyTrained,
    NothingLearnedError,
    Plan,
    Tally,
    evaluate_request,
    evaluate_requests,
    evaluation,
    learned,
    round_clients,
    server_optimizer,
    train_locally,
)
from fieldtune.server.federation.fedex_candidates import Candidate, who_may_train
from fieldtune.server.outcomes.trial import Choice, Learned
from fieldtune.server.study.tuner_options import Fedex

_STREAM = 0xFEDE
_AGAINST_CONFIGURATION = ("diverged", "deadline")
"""Failures that speak against a configuration; others say something of the device or its link."""


@dataclass(frozen=True)
class Tried:
    """One client's round: which configuration it was given, and what came of it."""

    index: int
    probability: float
    """With which it was given this one."""
    error: float
    weight: float
    """The client's share of the round's validation samples; they sum to 1."""


class Theta:
    """A distribution over configurations, uniform at first.

    Args:
        count: of configurations.
        options: step size and schedule.
        discount: of earlier rounds in the baseline: 0 takes the latest alone, 1 the mean of all.
    """

    def __init__(self, count: int, options: Fedex, discount: float) -> None:
        self._logarithms = np.full(count, -math.log(count))
        self._schedule, self._discount = options.schedule, discount
        self._step_size = options.step_size or math.sqrt(2 * math.log(count))
        self._past: list[float] = []
        """Mean error of each round."""
        self._gathered = 0.0
        """What the schedule adds up over rounds."""

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each configuration."""
        return tuple(np.exp(self._logarithms).tolist())

    def among(self, allowed: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities of these alone; they sum to 1."""
        chosen = self._logarithms[list(allowed)]
        weights = np.exp(chosen - chosen.max())
        return np.asarray(weights / weights.sum())

    def learn(self, tried: Sequence[Tried]) -> None:
        """One exponentiated-gradient step after a round (algorithm 2, the last two lines).

        ``g_j = sum over clients of weight (error - baseline) / probability`` where ``j`` was
        given, ``theta_j <- theta_j exp(-eta g_j)``, normalised.
        """
        if not tried:
            return
        baseline, gradient = self._baseline(), np.zeros(len(self._logarithms))
        for each in tried:
            gradient[each.index] += each.weight * (each.error - baseline) / each.probability
        self._past.append(sum(each.weight * each.error for each in tried))
        moved = self._logarithms - self._eta(float(np.abs(gradient).max())) * gradient
        moved -= moved.max()
        self._logarithms = moved - math.log(float(np.exp(moved).sum()))

    def _baseline(self) -> float:
        """Discounted mean of the errors of earlier rounds; 0 before the first."""
        if not self._past:
            return 0.0
        weights = self._discount ** np.arange(len(self._past))[::-1]
        return float(weights @ np.array(self._past) / weights.sum())

    def _eta(self, steepest: float) -> float:
        """The step size, given the largest entry of the gradient."""
        if steepest == 0:
            return 0.0
        match self._schedule:
            case "aggressive":
                return self._step_size / steepest
            case "adaptive":
                self._gathered += steepest**2
                return self._step_size / math.sqrt(self._gathered)
            case "decaying":
                self._gathered += 1
                return self._step_size / math.sqrt(self._gathered)
            case "constant":
                return self._step_size


def fedex(
    plan: Plan, candidates: Sequence[Candidate], options: Fedex
) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
    """Rounds in which each client trains with a configuration of its own; then one evaluation.

    The evaluation is of the shared weights, by whoever the most probable configuration fits. A
    round in which every training diverged teaches theta, and the next one starts from the same
    weights.

    Args:
        plan: of the training. Its configuration says what the server does; its participants are
            all whom any of the candidates fits.
        candidates: the configurations; they differ on the client only.
        options: of the algorithm.

    Raises:
        NothingLearnedError: no client could train or evaluate.
    """
    optimizer, weights, tally = server_optimizer(plan), plan.initial_weights, Tally()
    discount = options.discount
    if discount is None:
        discount = float(np.random.default_rng([plan.seed, _STREAM, 1]).random())
    theta, may = Theta(len(candidates), options, discount), who_may_train(candidates)
    done, worst = 0, 1.0

    for number in range(plan.rounds):
        given = {
            client: _drawn(theta, may[client], plan.seed, number, client)
            for client in round_clients(plan, number)
        }
        configurations = {c: candidates[index].configuration for c, (index, _) in given.items()}
        trained = yield from train_locally(plan, number, weights, configurations, tally)
        errors = yield from _validated(plan, number, trained, tally)
        worst = max([worst, *(error for error, _ in errors.values() if math.isfinite(error))])
        theta.learn(_tried(given, trained, errors, worst))
        if trained.usable:
            proposed = optimizer.step(weights, trained.updates)
            if not np.isfinite(proposed).all():
                tally.failures["diverged"] += 1
                break
            weights, done = proposed, number + 1
        elif not tally.failures["diverged"]:
            raise NothingLearnedError(tally.failures, trained.answers.values())

    values = tuple(dict(each.configuration.client) for each in candidates)
    choice = Choice(values, theta.probabilities)
    fits = replace(plan, participants=candidates[choice.mode].forecast.participants)
    answers = yield evaluate_requests(fits, plan.rounds, weights)
    measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
    return weights, learned(tally, measures, samples, done, {}, choice=choice)


def _drawn(
    theta: Theta, allowed: Sequence[int], seed: int, number: int, client: int
) -> tuple[int, float]:
    """A configuration for a client, and how probable it was among those that it is allowed."""
    probabilities = theta.among(allowed)
    at = np.random.default_rng([seed, number, client, _STREAM]).random()
    index = min(int(np.searchsorted(probabilities.cumsum(), at, "right")), len(allowed) - 1)
    return allowed[index], float(probabilities[index])


def _validated(
    plan: Plan, number: int, trained: LocallyTrained, tally: Tally
) -> Generator[Exchange, Answers, dict[int, tuple[float, int]]]:
    """Error and samples of what each client came to, on its own test data.

    An error is infinite where the loss is no number. Who does not answer is left out.
    """
    if not trained.usable:
        return {}
    answers = yield {
        client: evaluate_request(plan, number, report.weights)
        for client, report in trained.usable.items()
        if report.weights is not None
    }
    tally.take(answers)
    found = {
        client: (error, report.samples)
        for client, report in sorted(answers.items())
        if isinstance(report, EvaluateReport)
        and report.samples
        and (error := _error(client, report, plan, tally.failures)) is not None
    }
    return found


def _error(client: int, report: EvaluateReport, plan: Plan, failures: Counter[str]) -> float | None:
    if not report.failure and not math.isfinite(report.loss_sum):
        return math.inf
    try:
        measures, _ = evaluation({client: report}, plan.classes, plan.metric, failures)
    except NothingLearnedError:
        return None
    return measures.get("error", measures["loss"])


def _tried(
    given: Mapping[int, tuple[int, float]],
    trained: LocallyTrained,
    errors: Mapping[int, tuple[float, int]],
    worst: float,
) -> list[Tried]:
    """What a round says of the configurations.

    A training that diverged or missed the deadline counts as the worst error so far, at least 1,
    and as the mean client of the round.
    """
    lost = [c for c, kind in trained.failed.items() if kind in _AGAINST_CONFIGURATION]
    samples = {client: float(count) for client, (_, count) in errors.items()}
    samples |= dict.fromkeys(lost, sum(samples.values()) / len(samples) if samples else 1.0)
    total = sum(samples.values())
    return [
        Tried(
            *given[client],
            error=min(errors[client][0], worst) if client in errors else worst,
            weight=samples[client] / total,
        )
        for client in sorted(samples)
    ]
