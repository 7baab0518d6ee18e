"""Real federated training as a problem: the product's own artefact, trainer and algorithm.

The study's clients are trained in this process, as :mod:`tuner.clients` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fieldtune.server.bo.known import Known
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.fedex import fedex
from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around, who_may_train
from fieldtune.server.outcomes.trial import Forecast, Learned
from fieldtune.server.session.setup import make_cost_model
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Configuration, Parameter
from fieldtune.server.study.tuner_options import Fedex
from tuner.clients import Clients, drawn
from tuner.problem import Evaluation, Reference, Values, frozen_reference

FRESH = (9_000_001, 9_000_002, 9_000_003)
"""Seeds of the truth: no run uses them."""
MANY_FRESH = tuple(range(9_000_001, 9_000_010))
"""Where only a few configurations are compared, whose errors are off by a tenth in a single run."""

Key = tuple[tuple[str, object], ...]


class Federated:
    """A study file as a problem.

    Args:
        file: the study.
        evaluation_share: share of the clients that evaluate a trial; the truth always asks all.
        data_seed: in place of the study's seed, so that its data is dealt out to other clients.
        only: configurations that are to be evaluated, where no others are: their models alone are
            compiled.
    """

    shares: frozenset[int]

    def __init__(
        self,
        file: Path,
        *,
        evaluation_share: float = 1.0,
        data_seed: int | None = None,
        only: Sequence[Values] | None = None,
    ) -> None:
        self.study: StudyConfig = load_study(file)
        if data_seed is not None:
            seeded = self.study.study.model_copy(update={"seed": data_seed})
            self.study = self.study.model_copy(update={"study": seeded})
        self.name = file.stem
        self._share = evaluation_share
        self._goals = self.study.study.objectives
        self.objectives = tuple(goal.name for goal in self._goals)
        self.shares = frozenset(n for n, name in enumerate(self.objectives) if name == "error")
        self.rounds = self.study.study.rounds
        full = self.study.full_space
        self.space: Mapping[str, Parameter] = full.parameters()
        self._clients = Clients(self.study, [str(file.resolve().parent)])
        self.members = self._clients.members
        self._costs = make_cost_model(self.study, self.members)
        self._forecasts: dict[Key, Forecast] = {}
        self._learned: dict[tuple[Key, int, int, bool], Learned | None] = {}
        # A sample this large misses none of the few dozen architectures of a benchmark.
        self._clients.compile(
            full.sample(5000, seed=0)
            if only is None
            else [full.configuration(values) for values in only]
        )

    @property
    def trials(self) -> int:
        """The budget, in full evaluations."""
        trials = self.study.study.trials
        assert trials is not None, "a benchmark's study says how many trials"
        return trials

    @property
    def reference(self) -> Reference:
        """The frozen scale."""
        return frozen_reference(self.name)

    def known(self, values: Values) -> Known:
        """The forecast: every cost and all limits."""
        forecast = self.forecast(values)
        return Known(
            {
                n: goal.sign * _cost(forecast, goal.name)
                for n, goal in enumerate(self._goals)
                if not goal.learned
            },
            forecast.constraints,
        )

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """Train for so many rounds, then evaluate on this problem's share of the clients."""
        learned = self._train(values, rounds, seed, everyone=self._share == 1.0)
        return self._evaluation(values, [learned])

    def truth(self, values: Values) -> Evaluation:
        """The mean over fresh seeds, each evaluated on every client's test data."""
        return self._evaluation(
            values, [self._train(values, self.rounds, seed, everyone=True) for seed in FRESH]
        )

    def true_error(self, values: Values) -> float:
        """Mean error over nine fresh seeds, on every client's test data, objective or not."""
        outcomes = [self._train(values, self.rounds, seed, everyone=True) for seed in MANY_FRESH]
        return float(np.mean([_measure(outcome, "error") for outcome in outcomes]))

    def forecast(self, values: Values) -> Forecast:
        """What the configuration costs on each device type."""
        configuration = self._configuration(values)
        # Nothing else enters a forecast, and these few take few values.
        key = tuple(sorted(configuration.model.items())) + tuple(
            (name, values.get(name)) for name in ("batch_size", "local_epochs", "clients_per_round")
        )
        if key not in self._forecasts:
            self._costs.learn(configuration, self._clients.artefact(configuration).manifest)
            self._forecasts[key] = self._costs.forecast(configuration)
        return self._forecasts[key]

    def _evaluation(self, values: Values, outcomes: list[Learned | None]) -> Evaluation:
        known = self.known(values)
        objectives = [
            known.objectives[n]
            if n in known.objectives
            else goal.sign * float(np.mean([_measure(outcome, goal.name) for outcome in outcomes]))
            for n, goal in enumerate(self._goals)
        ]
        device_s = float(np.mean([outcome.device_s if outcome else 0.0 for outcome in outcomes]))
        return Evaluation(tuple(objectives), known.constraints, device_s)

    def _train(self, values: Values, rounds: int, seed: int, *, everyone: bool) -> Learned | None:
        """One federated training; None where no client returned a result."""
        key = (tuple(sorted(values.items())), rounds, seed, everyone)
        if key not in self._learned:
            self._learned[key] = self._trained(values, rounds, seed, everyone=everyone)
        return self._learned[key]

    def _trained(self, values: Values, rounds: int, seed: int, *, everyone: bool) -> Learned | None:
        # A configuration over a limit is trained all the same, so that samplers without formulas
        # learn something of it: more than a device that runs out of memory would tell them.
        participants = self.forecast(values).participants or tuple(range(len(self.members)))
        plan = self._clients.plan(self._configuration(values), participants, rounds, seed)
        asked = participants if everyone else drawn(participants, self._share, seed)
        return self._clients.train(federated_averaging(plan), plan, asked)

    def explore(
        self, values: Values, rounds: int, seed: int, options: Fedex
    ) -> tuple[Values, Evaluation]:
        """Train by FedEx around a configuration: the one that it came to, and what it measured."""

        def candidate(configuration: Configuration) -> Candidate:
            return Candidate(configuration, self.forecast(configuration.flat()))

        asked = candidate(self._configuration(values))
        if not asked.forecast.feasible:
            return values, self.evaluate(values, rounds, seed)
        candidates = candidates_around(
            asked,
            space=self.study.space,
            count=options.configurations,
            radius=options.radius,
            forecast=lambda configuration: candidate(configuration).forecast,
            seed=seed,
        )
        participants = tuple(who_may_train(candidates))
        plan = self._clients.plan(self._configuration(values), participants, rounds, seed)
        asks = participants if self._share == 1.0 else drawn(participants, self._share, seed)
        found = self._clients.train(fedex(plan, candidates, options), plan, asks)
        chosen = found.choice.mode if found and found.choice else 0
        came_to = candidates[chosen].configuration.flat()
        return came_to, self._evaluation(came_to, [found])

    def _configuration(self, values: Values) -> Configuration:
        return self.study.full_space.configuration(values)


def _cost(forecast: Forecast, name: str) -> float:
    """The fleet's cost; that of the whole fleet, as if it fitted, where no client could take part.

    So what is far over a limit still has a number, as every sampler wants one.
    """
    if forecast.participants:
        return forecast.measures[name]
    devices = forecast.devices.values()
    values = [getattr(device.cost, name).value for device in devices]
    if MEASURES[name].worst_of_fleet:
        return float(max(values))
    return float(np.average(values, weights=[device.clients for device in devices]))


def _measure(outcome: Learned | None, name: str) -> float:
    """A learned measure; the worst there is where nothing was learned."""
    if outcome is None or not math.isfinite(outcome.measures[name]):
        return {"loss": 10.0}.get(name, 0.0 if MEASURES[name].maximised else 1.0)
    return outcome.measures[name]
