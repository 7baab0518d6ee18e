"""Real federated training as a problem: the product's own artefact, trainer and algorithm.

The study's clients are trained in this process, without messages in between: the artefact that the
compiler made, the client's trainer on it, the coordinator's federated averaging, and the device's
time from its profile. What is left out is transport, and the spread between devices of one type.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
    Weights,
)
from fieldtune.client.training import trainer
from fieldtune.client.training.runtime import Session, runtime_name
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.federation.fedavg import (
    Answers,
    Exchange,
    NothingLearnedError,
    Plan,
    Report,
    Request,
    federated_averaging,
)
from fieldtune.server.federation.fedex import fedex
from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around, who_may_train
from fieldtune.server.outcomes.trial import Forecast, Learned
from fieldtune.server.session.setup import compile_service, make_artefacts, make_cost_model
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Configuration, Parameter
from fieldtune.server.study.tuner_options import Fedex
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from fieldtune.simulations.fleet.profile_meter import ProfileMeter
from fieldtune.simulations.partition.partition import partition
from tuner.problem import Evaluation, Known, Reference, Values, frozen_reference

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
        plan = FleetPlan.of(self.study)
        self._data = partition(load_dataset(plan.data), plan)
        self._profiles = assign_devices(plan.devices, plan.clients, plan.seed)
        self.members = [
            Description(
                client=client,
                profile=profile,
                train_samples=len(data.train_y),
                test_samples=len(data.test_y),
                input_shape=data.input_shape,
                classes=data.classes,
                runtime=runtime_name(),
            )
            for client, (profile, data) in enumerate(zip(self._profiles, self._data, strict=True))
        ]
        self._costs = make_cost_model(self.study, self.members)
        self._import_path = [str(file.resolve().parent)]
        self._artefacts: dict[str, Artefact] = {}
        self._sessions: dict[str, Session] = {}
        self._forecasts: dict[Key, Forecast] = {}
        self._learned: dict[tuple[Key, int, int, bool], Learned | None] = {}
        # A sample this large misses none of the few dozen architectures of a benchmark.
        self._compile(
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
            self._costs.learn(configuration, self._artefacts[self._key(configuration)].manifest)
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
        plan = self._plan(values, participants, rounds, seed)
        asked = participants if everyone else _some(participants, self._share, seed)
        return self._converse(federated_averaging(plan), plan, asked)

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
        plan = self._plan(values, participants, rounds, seed)
        asks = participants if self._share == 1.0 else _some(participants, self._share, seed)
        found = self._converse(fedex(plan, candidates, options), plan, asks)
        chosen = found.choice.mode if found and found.choice else 0
        came_to = candidates[chosen].configuration.flat()
        return came_to, self._evaluation(came_to, [found])

    def _plan(self, values: Values, participants: tuple[int, ...], rounds: int, seed: int) -> Plan:
        configuration = self._configuration(values)
        artefact = self._artefacts[self._key(configuration)]
        return Plan(
            trial=0,
            configuration=configuration,
            artefact=artefact.manifest.artefact_sha256,
            hyperparameters=artefact.manifest.hyperparameters,
            initial_weights=artefact.initial_weights,
            participants=participants,
            classes=artefact.manifest.classes,
            rounds=rounds,
            metric=self.study.task.metric,
            deadline_s={},
            seed=seed,
        )

    def _converse(
        self,
        steps: Generator[Exchange, Answers, tuple[Weights, Learned]],
        plan: Plan,
        evaluate: Collection[int],
    ) -> Learned | None:
        """Answer for the clients; at the end only these evaluate. None where nothing is learned."""
        name = self._key(plan.configuration)
        if name not in self._sessions:
            self._sessions[name] = Session(self._artefacts[name].model)
        session = self._sessions[name]
        try:
            exchange = next(steps)
            while True:
                exchange = steps.send(
                    {
                        client: self._answer(session, client, request)
                        for client, request in exchange.items()
                        if request.round < plan.rounds or client in evaluate
                    }
                )
        except StopIteration as end:
            learned: Learned = end.value[1]
            return learned
        except NothingLearnedError:
            return None

    def _answer(self, session: Session, client: int, request: Request) -> Report:
        data = self._data[client]
        meter = ProfileMeter(_profile(self._profiles[client]), 1.0)
        if isinstance(request, TrainRequest):
            trained = trainer.train(session, data, request)
            return TrainReport(
                trial=request.trial,
                round=request.round,
                weights=trained.weights,
                samples=trained.samples,
                steps=trained.steps,
                loss=trained.loss,
                wall_s=meter.stop(session, train_steps=trained.steps).wall_s,
                simulated=True,
            )
        counted = trainer.evaluate(session, data, request)  # type: ignore[arg-type]
        return EvaluateReport(
            trial=request.trial,
            round=request.round,
            samples=counted.samples,
            loss_sum=counted.loss_sum,
            hits=tuple(counted.hits.tolist()),
            predicted=tuple(counted.predicted.tolist()),
            actual=tuple(counted.actual.tolist()),
            value=counted.value,
            weight=counted.weight,
            wall_s=meter.stop(session, samples=counted.samples).wall_s,
            simulated=True,
        )

    def _configuration(self, values: Values) -> Configuration:
        return self.study.full_space.configuration(values)

    def _key(self, configuration: Configuration) -> str:
        model, knobs = self.study.model_of(configuration)
        return repr((model, sorted(knobs.items())))

    def _compile(self, configurations: Iterable[Configuration]) -> None:
        """Every architecture among them; the compiler's cache on disk keeps them."""
        with tempfile.TemporaryDirectory() as scratch:
            service = compile_service(Path(scratch), self._import_path)
            try:
                artefacts = make_artefacts(self.study, self.members, service)
                found = {self._key(each): each for each in configurations}
                futures = {key: artefacts.of(each) for key, each in found.items()}
                self._artefacts = {key: future.result() for key, future in futures.items()}
            finally:
                service.close()


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


def _some(participants: tuple[int, ...], share: float, seed: int) -> frozenset[int]:
    """The clients that evaluate, drawn without replacement."""
    count = max(1, round(share * len(participants)))
    drawn = np.random.default_rng([seed, 11]).choice(participants, size=count, replace=False)
    return frozenset(int(client) for client in drawn)


_profile = cache(load_profile)
