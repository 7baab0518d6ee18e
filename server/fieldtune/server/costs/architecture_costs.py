"""Costs of one architecture's configurations on a fleet, from the architecture's coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.costmodel.calibration import NO_CORRECTIONS, Corrections
from fieldtune.server.costs.coefficients import MEASURES, calibrated, calls_per_round, evaluate
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.study import objectives
from fieldtune.server.study.objectives import COST_MEASURES
from fieldtune.server.study.settings import client_settings
from fieldtune.server.study.space import Configuration

Array = NDArray[np.float64]

Calibration = Mapping[str, Corrections]
"""Device type -> factors between what its devices report and what its profile predicts."""


def factors(calibration: Calibration) -> tuple[object, ...]:
    """The factors of a calibration: all that costs without intervals depend on."""
    return tuple(
        (name, by.training.factor, by.inference.factor, by.memory.factor, by.power.factor)
        for name, by in sorted(calibration.items())
    )


_WORST = np.array([objectives.MEASURES[name].worst_of_fleet for name in COST_MEASURES])


@dataclass(frozen=True)
class FleetCosts:
    """Predicted costs of a configuration on a fleet, without intervals.

    Attributes:
        constraints: limit -> violation (used / cap - 1) at the quantile ``limits.coverage`` over
            the clients: with coverage 0.9, that which 90 % of the clients stay at or below.
        measures: costs of the whole fleet; infinite where no client can take part.
        figures: costs of a client with the mean number of samples ``[device type, measure]``,
            measures as in :data:`~fieldtune.server.costs.coefficients.MEASURES`.
        gaps: used / cap - 1 ``[limit, group]``; -1 where a limit is not set.
    """

    constraints: Mapping[str, float]
    measures: Mapping[str, float]
    figures: Array
    gaps: Array

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(value <= 0 for value in self.constraints.values())

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether a group's clients stay within all limits ``[group]``."""
        return np.asarray(self.gaps.max(axis=0, initial=-1.0) <= 0)


class ArchitectureCosts:
    """Costs of one architecture's configurations on a fleet, under one calibration.

    Args:
        fleet: the clients in groups.
        table: uncalibrated coefficients ``[device type, measure, term]``.
        micro_batch: of the artefact.
        calibration: fitted to what devices have reported.
    """

    def __init__(
        self, fleet: FleetGroups, table: Array, micro_batch: int, calibration: Calibration
    ) -> None:
        self.fleet, self.table, self.micro_batch = fleet, table, micro_batch
        self._calibrated = np.stack(
            [
                calibrated(each, calibration.get(name, NO_CORRECTIONS))
                for name, each in zip(fleet.types, table, strict=True)
            ]
        )
        limited = [MEASURES.index(name) for name in fleet.limit_names]
        self._limited = self._calibrated[fleet.group_types][:, limited].transpose(1, 0, 2)
        self._calls: dict[tuple[int, int], tuple[Array, Array]] = {}

    def of(self, configuration: Configuration) -> FleetCosts:
        """Costs of a configuration of this architecture."""
        fleet = self.fleet
        rounds = fleet.rounds_a_client(configuration)
        calls, mean_calls = self._calls_of(configuration)
        used = evaluate(self._limited, calls, rounds, fleet.group_samples)
        gaps = used / fleet.caps - 1.0
        worst = gaps.max(axis=0, initial=-1.0)
        rows = np.concatenate([gaps, worst[None]])
        order = rows.argsort(axis=1, kind="stable")
        last = (fleet.group_clients[order].cumsum(axis=1) >= fleet.needed).argmax(axis=1)
        at_coverage = rows[np.arange(len(rows)), order[np.arange(len(rows)), last]].tolist()
        figures = evaluate(
            self._calibrated, mean_calls[:, None], rounds, fleet.type_samples[:, None]
        )
        fitting = np.bincount(
            fleet.group_types, fleet.group_clients * (worst <= 0), len(fleet.types)
        )
        return FleetCosts(
            dict(zip((*fleet.limit_names, "coverage"), at_coverage, strict=True)),
            dict(zip(COST_MEASURES, _of_fleet(figures, fitting), strict=True)),
            figures,
            gaps,
        )

    def predicted(self, configuration: Configuration) -> Array:
        """Uncalibrated costs of each type's mean client ``[device type, measure]``."""
        rounds = self.fleet.rounds_a_client(configuration)
        _, calls = self._calls_of(configuration)
        return evaluate(self.table, calls[:, None], rounds, self.fleet.type_samples[:, None])

    def _calls_of(self, configuration: Configuration) -> tuple[Array, Array]:
        """Calls of ``train`` per round: ``[group]``, and ``[device type]`` for its mean client."""
        settings = client_settings(configuration)
        key = int(settings["batch_size"]), int(settings["local_epochs"])
        if key not in self._calls:
            self._calls[key] = tuple(
                np.array([calls_per_round(int(n), *key, self.micro_batch) for n in samples], float)
                for samples in (self.fleet.group_samples, np.ceil(self.fleet.type_samples))
            )  # type: ignore[assignment]
        return self._calls[key]


def _of_fleet(figures: Array, fitting: NDArray[np.int_]) -> list[float]:
    """Each measure of the whole fleet, over the device types with clients that can take part."""
    if not fitting.any():
        return [np.inf] * len(COST_MEASURES)
    figures = figures[:, : len(COST_MEASURES)]
    worst = figures[fitting > 0].max(axis=0)
    mean = fitting.astype(float) @ figures / fitting.sum()
    return np.where(_WORST, worst, mean).tolist()  # type: ignore[no-any-return]
