"""The simulated clients: their samples and device types, made when they are needed."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.training.answer import Client
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.estimate import Z90
from fieldtune.profiles.device.load import load_profile
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.datasets.samples import describe
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from fieldtune.simulations.fleet.profile_meter import DeviceCosts, ProfileMeter
from fieldtune.simulations.partition.partition import partition


class SimulatedClients:
    """The clients of a plan.

    Each client's time differs from its profile's by a seeded random factor; 90 % of the factors lie
    within 10 % of 1.

    Raises:
        DataError: the data set is not installed or cannot be partitioned.
    """

    def __init__(self, plan: FleetPlan) -> None:
        self._profiles = assign_devices(plan.devices, plan.clients, plan.seed)
        speeds = np.random.default_rng([plan.seed, 2])
        self._time_factors = np.exp(speeds.normal(0.0, np.log1p(0.1) / Z90, plan.clients))
        self._dataset = load_dataset(plan.data, labelled=plan.labelled)
        self._data = partition(self._dataset, plan)
        self._is_loaded_by_function = ":" in plan.data and not Path(plan.data).is_dir()
        self._labels = plan.labels or self._dataset.labels
        if plan.labelled and 0 < len(plan.labels) < self._dataset.classes:
            raise DataError(
                f"task.labels names {len(plan.labels)} classes, and {plan.data} has "
                f"{self._dataset.classes}: name all, in the order of their numbers"
            )

    def facts(self) -> dict[str, Any]:
        """The values of :class:`~fieldtune.server.study.data_facts.DataFacts`, as JSON has them."""
        return {
            **describe(self._dataset),
            "partition": self._data.description,
            "partition_sha256": self._data.sha256,
        }

    def checked_sha256(self) -> str:
        """SHA-256 of data that a function has loaded, which may be others each time; else empty."""
        return str(describe(self._dataset)["data_sha256"]) if self._is_loaded_by_function else ""

    def kind(self) -> dict[str, Any]:
        """Shape of a sample, number of classes and their names, as in a description."""
        return {
            "input_shape": self._dataset.x.shape[1:],
            "classes": self._dataset.classes,
            "labels": self._labels or None,
        }

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training and of test samples of each client."""
        return self._data.sizes

    def __len__(self) -> int:
        return len(self._profiles)

    def __getitem__(self, number: int) -> Client:
        return Client(partial(self._data.__getitem__, number), partial(self._meter, number))

    def _meter(self, number: int) -> ProfileMeter:
        return ProfileMeter(_costs(self._profiles[number]), float(self._time_factors[number]))


@cache
def _costs(profile: str) -> DeviceCosts:
    return DeviceCosts(load_profile(profile))
