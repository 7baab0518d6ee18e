"""The simulated fleet: the device type and the samples of each client.

A :class:`FleetPlan` holds the parameters of a fleet, so that all worker processes build the same
fleet from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.data.client_data import ClientData
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.training.meter import Meter
from fieldtune.client.training.runtime import Sessions
from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.study.config import StudyConfig
from fieldtune.simulations.datasets import load_dataset, locate_dataset
from fieldtune.simulations.datasets.samples import describe
from fieldtune.simulations.fleet.profile_meter import ProfileMeter
from fieldtune.simulations.partition.partition import partition

RUN_ID = 1
_FIRST_NODE = 1000
_SESSIONS = 64


@dataclass(frozen=True)
class FleetPlan:
    """The parameters of a simulated fleet."""

    data: str
    partition_kind: str | None
    """None: ``natural`` if the data set has owners, else ``dirichlet``."""
    alpha: float
    test_share: float
    clients: int
    devices: Mapping[str, float]
    """Device profile -> share of the clients."""
    seed: int
    shards: int = 2
    """Shards per client, if ``partition_kind`` is ``shards``."""
    labelled: bool = True
    """Whether the model is a classifier, so that the labels must number its classes."""

    @classmethod
    def of(cls, study: StudyConfig, base: Path = Path()) -> FleetPlan:
        """The fleet that a study describes; ``base`` is the study file's folder.

        Raises:
            StudyError: ``task.data`` is missing.
        """
        if study.task.data is None:
            raise StudyError(
                "task.data is missing: a simulated fleet has no data of its own. Set it to a data "
                "set, a folder or 'package.module:function'; only a study on devices (fieldtune "
                "tune --superlink) does not need it"
            )
        settings = study.task.partition
        return cls(
            locate_dataset(study.task.data, base),
            settings.kind,
            settings.alpha,
            settings.test_share,
            study.fleet.clients,
            dict(study.fleet.devices),
            study.study.seed,
            settings.shards,
            not study.task.reconstructs,
        )

    def to_json(self) -> str:
        """The plan as JSON text, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FleetPlan:
        """The plan from the text of :meth:`to_json`."""
        return cls(**json.loads(text))


def assign_devices(devices: Mapping[str, float], clients: int, seed: int) -> list[str]:
    """The device profile of each client: shares by largest remainder, in seeded random order."""
    names = sorted(devices)
    exact = np.array([devices[name] * clients for name in names])
    counts = np.floor(exact + 1e-9).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: clients - counts.sum()]:
        counts[index] += 1
    assigned = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    order = np.random.default_rng([seed, 1]).permutation(clients)
    return [assigned[index] for index in order]


class SimulatedFleet:
    """The ClientApp and the nodes' contexts of a plan.

    Each client's time differs from its profile's by a seeded random factor; 90 % of the factors lie
    within ``1 ± spread``.

    Raises:
        DataError: the data set is not installed or cannot be partitioned.
    """

    def __init__(self, plan: FleetPlan, *, spread: float = 0.1) -> None:
        self._plan = plan
        self._profiles = assign_devices(plan.devices, plan.clients, plan.seed)
        speeds = np.random.default_rng([plan.seed, 2])
        self._time_factors = np.exp(speeds.normal(0.0, np.log1p(spread) / 1.645, plan.clients))
        self._dataset = load_dataset(plan.data, labelled=plan.labelled)
        self._data = partition(self._dataset, plan)
        self.app: ClientApp = make_client_app(
            self._data_of, meter_of=self._meter_of, sessions=Sessions(_SESSIONS)
        )
        self.contexts = {
            node: Context(
                run_id=RUN_ID,
                node_id=node,
                node_config={
                    "partition-id": node - _FIRST_NODE,
                    "profile": self._profiles[node - _FIRST_NODE],
                },
                state=RecordDict(),
                run_config={},
            )
            for node in node_ids(plan.clients)
        }

    def facts(self) -> dict[str, Any]:
        """The values of :class:`~fieldtune.server.study.data_facts.DataFacts`, as JSON has them."""
        return {
            **describe(self._dataset),
            "partition": self._data.description,
            "partition_sha256": self._data.sha256,
        }

    def _data_of(self, node_config: Mapping[str, object]) -> ClientData:
        return self._data[_client(node_config)]

    def _meter_of(self, node_config: Mapping[str, object]) -> Meter:
        client = _client(node_config)
        return ProfileMeter(_profile(self._profiles[client]), float(self._time_factors[client]))


def node_ids(clients: int) -> range:
    """Flower node ids of a simulated fleet."""
    return range(_FIRST_NODE, _FIRST_NODE + clients)


def _client(node_config: Mapping[str, object]) -> int:
    return int(str(node_config["partition-id"]))


_profile = cache(load_profile)
