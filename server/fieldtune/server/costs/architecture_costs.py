"""Costs of one architecture's configurations on a fleet, from the architecture's coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.costmodel.calibration import NO_CORRECTIONS, Corrections
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.costs.algorithm_work import AlgorithmWork, additional, algorithm_work
from fieldtune.server.costs.coefficients import MEASURES, calibrated, calls_per_round, evaluate
from fieldtune.server.costs.epsilon import epsilon
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.study import objectives
from fieldtune.server.study.objectives import COST_MEASURES
from fieldtune.server.study.settings import ALGORITHM, Algorithm, client_settings
from fieldtune.server.study.space import Configuration

Array = NDArray[np.float64]

Need = tuple[float, float, float]
"""Of a limit, in its unit: whatever the client, per call of ``train`` in a round, and per training
sample of the client."""

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
            the clients: with coverage 0.9, that which 90 % of the clients stay at or below. The one
            of ``epsilon`` is that of the training.
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
        parameters: weights of the model.
        own: uncalibrated coefficients of what the federated algorithm adds; computed when a
            configuration needs them.
    """

    def __init__(
        self,
        fleet: FleetGroups,
        table: Array,
        micro_batch: int,
        calibration: Calibration,
        parameters: int,
        own: Callable[[], Array],
    ) -> None:
        self.fleet, self.table, self.micro_batch = fleet, table, micro_batch
        self.parameters, self.own, self._calibration = parameters, own, calibration
        self._calibrated = self._with_calibration(table)
        self._limited = self._of_limits(self._calibrated)
        self._calls: dict[tuple[int, int], tuple[Array, Array]] = {}

    def of(self, configuration: Configuration) -> FleetCosts:
        """Costs of a configuration of this architecture."""
        return self.of_many([configuration])[0]

    def of_many(self, configurations: Sequence[Configuration]) -> list[FleetCosts]:
        """Costs of configurations of this architecture, in less time than one by one.

        They are of one space.
        """
        fleet, algorithms = self.fleet, self._algorithms(configurations)
        rounds = np.array([fleet.rounds_a_client(each) for each in configurations])[:, None, None]
        both = [self._calls_of(each) for each in configurations]
        calls, mean_calls = (np.stack(each) for each in zip(*both, strict=True))
        used = evaluate(self._limited, calls[:, None], rounds, fleet.group_samples)
        samples = fleet.type_samples[:, None]
        figures = evaluate(self._calibrated, mean_calls[..., None], rounds, samples)
        for i, (algorithm, configuration) in enumerate(
            zip(algorithms, configurations, strict=True)
        ):
            if not algorithm.is_plain:
                of = float(rounds[i, 0, 0])
                limited = self._of_limits(self._own_calibrated)
                work = self._work(algorithm, configuration, fleet.group_samples)
                used[i] += additional(self._limited, limited, work, of)
                work = self._work(algorithm, configuration, samples)
                figures[i] += additional(self._calibrated, self._own_calibrated, work, of)
        gaps = used / fleet.caps - 1.0
        worst = gaps.max(axis=1, initial=-1.0)
        rows = np.concatenate([gaps, worst[:, None]], axis=1)
        order = rows.argsort(axis=2, kind="stable")
        last = (fleet.group_clients[order].cumsum(axis=2) >= fleet.needed).argmax(axis=2)
        c, limit = np.arange(len(rows))[:, None], np.arange(rows.shape[1])
        at_coverage = rows[c, limit, order[c, limit, last]].tolist()
        fitting = (fleet.group_clients * (worst <= 0)) @ fleet.is_of_type
        names, of_fleet = (*fleet.limit_names, "coverage"), _of_fleet(figures, fitting)
        found = []
        for i, configuration in enumerate(configurations):
            constraints = dict(zip(names, at_coverage[i], strict=True))
            measures = dict(zip(COST_MEASURES, of_fleet[i], strict=True))
            participants = int(fitting[i].sum())
            if private := fleet.private_rounds(configuration, participants):
                spent = epsilon(private, fleet.delta) if participants else np.inf
                measures["epsilon"] = spent
                if fleet.epsilon_limit is not None:
                    constraints["epsilon"] = spent / fleet.epsilon_limit - 1.0
            found.append(FleetCosts(constraints, measures, figures[i], gaps[i]))
        return found

    def needs(self, configuration: Configuration) -> dict[str, dict[str, Need]]:
        """What a client of each device type needs of each limit, whether it is set or not."""
        rounds, found = self.fleet.rounds_a_client(configuration), dict[str, dict[str, Need]]()
        for name, table in zip(self.fleet.types, self._calibrated, strict=True):
            found[name] = {}
            for limit in DeviceLimits.__dataclass_fields__:
                constant, call, both, a_round, download, sample = table[MEASURES.index(limit)]
                each = constant + rounds * a_round + min(1.0, rounds) * download
                found[name][limit] = float(each), float(call + rounds * both), float(sample)
        return found

    def used(self, configuration: Configuration) -> dict[str, Array]:
        """Limit -> what a client needs of it ``[group]``, whether it is set or not."""
        fleet, names = self.fleet, list(DeviceLimits.__dataclass_fields__)
        calls, _ = self._calls_of(configuration)
        rounds = fleet.rounds_a_client(configuration)
        rows = [MEASURES.index(name) for name in names]
        table = self._calibrated[fleet.group_types][:, rows].transpose(1, 0, 2)
        needed = evaluate(table, calls, rounds, fleet.group_samples)
        algorithm = Algorithm.of(configuration, fleet.server)
        if not algorithm.is_plain:
            work = self._work(algorithm, configuration, fleet.group_samples)
            own = self._own_calibrated[fleet.group_types][:, rows].transpose(1, 0, 2)
            needed = needed + additional(table, own, work, rounds)
        return dict(zip(names, needed, strict=True))

    def predicted(self, configuration: Configuration) -> Array:
        """Uncalibrated costs of each type's mean client ``[device type, measure]``."""
        rounds = self.fleet.rounds_a_client(configuration)
        _, calls = self._calls_of(configuration)
        return evaluate(self.table, calls[:, None], rounds, self.fleet.type_samples[:, None])

    def _with_calibration(self, table: Array) -> Array:
        return np.stack(
            [
                calibrated(each, self._calibration.get(name, NO_CORRECTIONS))
                for name, each in zip(self.fleet.types, table, strict=True)
            ]
        )

    def _of_limits(self, table: Array) -> Array:
        """The coefficients ``[limit, group, term]`` of what is limited."""
        limited = [MEASURES.index(name) for name in self.fleet.limit_names]
        return np.asarray(table[self.fleet.group_types][:, limited].transpose(1, 0, 2))

    @cached_property
    def _own_calibrated(self) -> Array:
        return self._with_calibration(self.own())

    def _algorithms(self, configurations: Sequence[Configuration]) -> list[Algorithm]:
        first, server = configurations[0], self.fleet.server
        if ALGORITHM.keys().isdisjoint(first.client) and "aggregation" not in first.server:
            return [Algorithm.of(first, server)] * len(configurations)
        return [Algorithm.of(each, server) for each in configurations]

    def _work(
        self, algorithm: Algorithm, configuration: Configuration, samples: Array
    ) -> AlgorithmWork:
        return algorithm_work(
            algorithm,
            configuration,
            parameters=self.parameters,
            micro_batch=self.micro_batch,
            samples=samples,
        )

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


def _of_fleet(figures: Array, fitting: Array) -> list[list[float]]:
    """Each measure of the whole fleet, over the device types with clients that can take part.

    Args:
        figures: of the types' mean clients ``[configuration, device type, measure]``.
        fitting: how many clients can ``[configuration, device type]``.
    """
    figures, clients = figures[..., : len(COST_MEASURES)], fitting.sum(axis=1)
    worst = np.where((fitting > 0)[..., None], figures, -np.inf).max(axis=1)
    mean = (fitting[:, None] @ figures)[:, 0] / np.maximum(clients, 1)[:, None]
    values = np.where(_WORST, worst, mean)
    values[clients == 0] = np.inf
    return values.tolist()  # type: ignore[no-any-return]
