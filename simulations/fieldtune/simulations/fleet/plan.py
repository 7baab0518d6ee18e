"""The parameters of a simulated fleet, from which all worker processes build the same clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fieldtune.profiles.common.errors import StudyError
from fieldtune.server.study.config import StudyConfig
from fieldtune.simulations.datasets import locate_dataset


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
    labels: tuple[str, ...] = ()
    """Names of the classes; empty: those that the data set has."""

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
            study.task.labels,
        )

    def to_json(self) -> str:
        """The plan as JSON text, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FleetPlan:
        """The plan from the text of :meth:`to_json`."""
        values = json.loads(text)
        return cls(**{**values, "labels": tuple(values["labels"])})


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
