"""FedEx: tuning client hyperparameters within one federated training, by sharing its weights.

Khodak et al. 2021 (arXiv 2106.04502), algorithm 2. Each client of a round trains the shared
weights with a configuration drawn from a distribution theta. The validation errors of the clients'
weights then move theta in an exponentiated-gradient step. Step sizes and baseline are those of the
authors' code (github.com/mkhodak/FedEx). Unlike in the paper, a client only gets configurations
that the limits allow on it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import EvaluateReport, Weights
from fieldtune.server.federation.aggregation import server_optimizer
from fieldtune.server.federation.evaluation import evaluate_request, evaluate_requests, evaluation
from fieldtune.server.federation.exchange import Answers, Exchange, Keep, State
from fieldtune.server.federation.fedex_candidates import Candidate, who_may_train
from fieldtune.server.federation.local_training import LocallyTrained, train_locally
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.selectors import selector_of, someone
from fieldtune.server.federation.tally import NothingLearnedError, Tally, learned
from fieldtune.server.outcomes.trial import Choice, Learned
from fieldtune.server.study.settings import server_settings
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Fedex

_STREAM = 0xFEDE
_CONFIGURATION_FAILURES = ("diverged", "deadline")
"""Failures that a configuration causes; other kinds are due to the device or its connection."""


_SMALLEST = 1e-150
"""Of a gradient that is followed: the square of a smaller one underflows."""


@dataclass(frozen=True)
class ClientResult:
    """A client's configuration in one round, and its validation error."""

    index: int
    probability: float
    """With which this configuration was drawn."""
    error: float
    weight: float
    """The client's share of the round's validation samples; they sum to 1."""


class Theta:
    """A distribution over configurations, uniform at first.

    Args:
        count: number of configurations.
        options: step size and schedule.
        discount: weight of earlier rounds in the baseline: 0 takes the latest alone, 1 the mean of
            all.
    """

    def __init__(self, count: int, options: Fedex, discount: float) -> None:
        self._logarithms = np.full(count, -math.log(count))
        self._schedule, self._discount = options.schedule, discount
        self._step_size = options.step_size or math.sqrt(2 * math.log(count))
        self._past: list[float] = []
        """Mean error of each round."""
        self._accumulated = 0.0
        """The schedule's sum over the rounds."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue with the same bits."""
        return {
            "logarithms": self._logarithms,
            "past": list(self._past),
            "accumulated": self._accumulated,
        }

    def restore(self, state: State) -> None:
        """Continue from a stored state."""
        self._logarithms, self._past = state["logarithms"], list(state["past"])
        self._accumulated = state["accumulated"]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each configuration."""
        return tuple(np.exp(self._logarithms).tolist())

    def among(self, allowed: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities of the allowed configurations, normalised to sum to 1."""
        chosen = self._logarithms[list(allowed)]
        weights = np.exp(chosen - chosen.max())
        return np.asarray(weights / weights.sum())

    def learn(self, tried: Sequence[ClientResult]) -> None:
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
        if steepest < _SMALLEST:
            return 0.0
        match self._schedule:
            case "aggressive":
                return self._step_size / steepest
            case "adaptive":
                self._accumulated += steepest**2
                return self._step_size / math.sqrt(self._accumulated)
            case "decaying":
                self._accumulated += 1
                return self._step_size / math.sqrt(self._accumulated)
            case "constant":
                return self._step_size


def fedex(
    plan: Plan,
    candidates: Sequence[Candidate],
    options: Fedex,
    resumed: State | None = None,
    keep: Keep = lambda state: None,
) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
    """Rounds in which each client trains with a configuration of its own; then one evaluation.

    The final evaluation is of the shared weights, by all clients on which the most probable
    configuration fits. After a round in which every training diverged, theta is updated and the
    next round starts from the same weights.

    Args:
        plan: of the training. Its configuration gives the server's settings; its participants are
            all clients on which any of the candidates fits.
        candidates: the configurations; they differ on the client only.
        options: of the algorithm.
        resumed: the state to continue from.
        keep: stores the state after each round.

    Raises:
        NothingLearnedError: no client could train or evaluate.
    """
    optimizer = server_optimizer(plan.server, plan.configuration)
    weights, tally = plan.initial_weights, Tally(target=plan.target)
    discount = options.discount
    if discount is None:
        discount = float(np.random.default_rng([plan.seed, _STREAM, 1]).random())
    theta, may = Theta(len(candidates), options, discount), who_may_train(candidates)
    done, worst, first = 0, 1.0, 0
    selector = selector_of(plan)
    count = int(server_settings(plan.configuration)["clients_per_round"])
    if resumed:
        optimizer.restore(resumed["optimizer"])
        theta.restore(resumed["theta"])
        weights, tally, done = (
            resumed["weights"],
            Tally.of(plan, resumed["tally"]),
            resumed["rounds"],
        )
        worst, first = resumed["worst"], resumed["next"]

    for number in range(first, plan.rounds):
        if not plan.has_time:
            break
        asked = yield from someone(plan, selector, number, count)
        given = {client: _draw(theta, may[client], plan.seed, number, client) for client in asked}
        configurations = {c: candidates[index].configuration for c, (index, _) in given.items()}
        trained = yield from train_locally(plan, number, weights, configurations, tally)
        errors = yield from _validate(plan, number, trained, configurations, tally)
        worst = max([worst, *(error for error, _ in errors.values() if math.isfinite(error))])
        theta.learn(_client_results(given, trained, errors, worst))
        if trained.usable:
            proposed = optimizer.step(weights, trained.updates)
            if not np.isfinite(proposed).all():
                tally.failures["diverged"] += 1
                break
            weights, done = proposed, number + 1
        elif trained.wrong and not tally.failures["diverged"]:
            raise NothingLearnedError(tally.failures, trained.answers.values())
        keep(
            {
                "rounds": done,
                "next": number + 1,
                "weights": weights,
                "optimizer": optimizer.state(),
                "tally": tally.state(),
                "theta": theta.state(),
                "worst": worst,
            }
        )

    if not tally.updates and not tally.failures["diverged"]:
        raise NothingLearnedError(tally.failures, (), in_time=plan.has_time)
    values = tuple(dict(each.configuration.client) for each in candidates)
    choice = Choice(values, theta.probabilities)
    chosen = candidates[choice.mode]
    fits = replace(
        plan, participants=chosen.forecast.participants, configuration=chosen.configuration
    )
    answers = yield evaluate_requests(fits, plan.rounds, weights)
    measures, samples = evaluation(answers, plan.classes, plan.metric, tally.failures)
    return weights, learned(tally, measures, samples, done, {}, choice=choice)


def _draw(
    theta: Theta, allowed: Sequence[int], seed: int, number: int, client: int
) -> tuple[int, float]:
    """Draw a client's configuration: its index, and its probability among the allowed ones."""
    probabilities = theta.among(allowed)
    at = np.random.default_rng([seed, number, client, _STREAM]).random()
    index = min(int(np.searchsorted(probabilities.cumsum(), at, "right")), len(allowed) - 1)
    return allowed[index], float(probabilities[index])


def _validate(
    plan: Plan,
    number: int,
    trained: LocallyTrained,
    configurations: Mapping[int, Configuration],
    tally: Tally,
) -> Generator[Exchange, Answers, dict[int, tuple[float, int]]]:
    """Each client evaluates its trained weights on its own test data: ``(error, samples)``.

    The error is infinite where the loss is not finite. Clients without an answer are left out.
    """
    if not trained.usable:
        return {}
    answers = yield {
        client: evaluate_request(plan, number, report.weights, configurations[client])
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


def _client_results(
    given: Mapping[int, tuple[int, float]],
    trained: LocallyTrained,
    errors: Mapping[int, tuple[float, int]],
    worst: float,
) -> list[ClientResult]:
    """The results of one round's clients.

    A training that diverged or missed the deadline counts with the worst error so far (at least 1)
    and with the mean number of samples of the round's clients.
    """
    lost = [c for c, kind in trained.failed.items() if kind in _CONFIGURATION_FAILURES]
    samples = {client: float(count) for client, (_, count) in errors.items()}
    samples |= dict.fromkeys(lost, sum(samples.values()) / len(samples) if samples else 1.0)
    total = sum(samples.values())
    return [
        ClientResult(
            *given[client],
            error=min(errors[client][0], worst) if client in errors else worst,
            weight=samples[client] / total,
        )
        for client in sorted(samples)
    ]
