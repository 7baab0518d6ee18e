"""A study's clients in this process: data, artefacts and the answers to the coordinator.

They are trained without messages in between: the artefact that the compiler made, the client's
trainer on it, the coordinator's federated algorithm, and the device's time from its profile. What
is left out is transport, and the spread between devices of one type.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Generator, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from fieldtune.client.contract.messages import Description, Weights
from fieldtune.client.training.answer import Client, answer
from fieldtune.client.training.runtime import Sessions, runtime_name
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.federation.exchange import Answers, Exchange, Report, Request
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.outcomes.trial import Learned
from fieldtune.server.session.setup import compile_service, make_artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from fieldtune.simulations.fleet.profile_meter import DeviceCosts, ProfileMeter
from fieldtune.simulations.partition.partition import partition

_SESSIONS = 1000
"""Architectures that stay loaded."""


class Clients:
    """The clients of a study.

    Args:
        study: whose fleet and data they are.
        import_path: folders that are searched for a user's own models.
    """

    def __init__(self, study: StudyConfig, import_path: list[str]) -> None:
        self._study, self._import_path = study, import_path
        plan = FleetPlan.of(study)
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
        self._artefacts: dict[str, Artefact] = {}
        self._sessions = Sessions(_SESSIONS)

    def compile(self, configurations: Iterable[Configuration]) -> None:
        """Compile every architecture among them; the compiler's cache on disk keeps them."""
        with tempfile.TemporaryDirectory() as scratch:
            service = compile_service(Path(scratch), self._import_path)
            try:
                artefacts = make_artefacts(self._study, self.members, service)
                found = {self._key(each): each for each in configurations}
                futures = {key: artefacts.of(each) for key, each in found.items()}
                self._artefacts = {key: future.result() for key, future in futures.items()}
            finally:
                service.close()

    def artefact(self, configuration: Configuration) -> Artefact:
        """The artefact of a configuration whose architecture was compiled."""
        return self._artefacts[self._key(configuration)]

    def plan(
        self, configuration: Configuration, participants: tuple[int, ...], rounds: int, seed: int
    ) -> Plan:
        """What a federated training of a configuration is to do."""
        artefact = self.artefact(configuration)
        return Plan(
            trial=0,
            configuration=configuration,
            artefact=artefact.manifest.artefact_sha256,
            hyperparameters=artefact.manifest.hyperparameters,
            initial_weights=artefact.initial_weights,
            participants=participants,
            classes=artefact.manifest.classes,
            rounds=rounds,
            metric=self._study.task.metric,
            deadline_s={},
            seed=seed,
        )

    def train(
        self,
        steps: Generator[Exchange, Answers, tuple[Weights, Learned]],
        plan: Plan,
        evaluate: Collection[int],
    ) -> Learned | None:
        """Answer what a federated algorithm asks; at the end only some clients evaluate.

        Returns:
            None where no client returned a result.
        """
        artefact = self.artefact(plan.configuration)
        try:
            exchange = next(steps)
            while True:
                exchange = steps.send(
                    {
                        client: self._answer(artefact, client, request)
                        for client, request in exchange.items()
                        if request.round < plan.rounds or client in evaluate
                    }
                )
        except StopIteration as end:
            learned: Learned = end.value[1]
            return learned
        except NothingLearnedError:
            return None

    def _answer(self, artefact: Artefact, client: int, request: Request) -> Report:
        asked = Client(
            lambda: self._data[client],
            lambda: ProfileMeter(_costs(self._profiles[client]), 1.0),
        )
        return answer(request.model_copy(update={"model": artefact.model}), asked, self._sessions)

    def _key(self, configuration: Configuration) -> str:
        model, knobs = self._study.model_of(configuration)
        return repr((model, sorted(knobs.items())))


def drawn(participants: tuple[int, ...], share: float, seed: int) -> frozenset[int]:
    """The clients that evaluate, drawn without replacement."""
    count = max(1, round(share * len(participants)))
    chosen = np.random.default_rng([seed, 11]).choice(participants, size=count, replace=False)
    return frozenset(int(client) for client in chosen)


@cache
def _costs(profile: str) -> DeviceCosts:
    return DeviceCosts(load_profile(profile))
