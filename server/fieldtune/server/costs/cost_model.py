"""The cost model: what a configuration costs on the fleet, and which clients can take part.

The tuning loop, the sampler, the report and retargeting use the same one. It consists of the cost
coefficients of each architecture on each device type, kept in the run folder as ``costs.json``, and
a calibration with what devices have reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.costmodel.calibration import NO_CORRECTIONS, corrected
from fieldtune.profiles.costmodel.cost import Cost, computing_w, predict, predict_training
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.algorithm_work import (
    AlgorithmWork,
    algorithm_coefficients,
    algorithm_work,
    step_factor,
    with_algorithm,
)
from fieldtune.server.costs.architecture_costs import (
    ArchitectureCosts,
    Calibration,
    FleetCosts,
    factors,
)
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.costs.coefficients import (
    MEASURES,
    calls_per_round,
    coefficients,
    workload,
    works,
)
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.costs.kept_coefficients import KeptCoefficients
from fieldtune.server.outcomes.trial import DeviceForecast, Forecast
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.settings import Algorithm, client_settings
from fieldtune.server.study.space import Configuration

Array = NDArray[np.float64]

_KEPT_CALIBRATIONS = 4
"""Forecasts are kept for this many calibrations: those of trials in flight, and the latest."""


class CostModel:
    """The cost model of a study, for configurations whose architecture has been compiled.

    Args:
        study: its limits, rounds and models.
        members: the fleet's clients.
        profiles: of each device type of the fleet.
        kept: the text of ``costs.json`` from an earlier session. Coefficients are computed anew
            where the device type's profile, the model's artefact or fieldtune has changed since.
        keep: is called with the new text of the file when an architecture is added.
    """

    def __init__(
        self,
        study: StudyConfig,
        members: Sequence[Description],
        profiles: Mapping[str, DeviceProfile],
        *,
        kept: str | None = None,
        keep: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.fleet = FleetGroups(study, members, profiles)
        self._study, self._profiles, self._keep = study, profiles, keep
        self._manifests: dict[str, tuple[Manifest, dict[str, Work]]] = {}
        self._tables: dict[str, Array] = {}
        self._own_tables: dict[str, Array] = {}
        self._kept = KeptCoefficients(kept, profiles)
        self._costs: dict[tuple[str, object], ArchitectureCosts] = {}
        self._forecasts: dict[object, dict[object, Forecast]] = {}
        self._predicted: dict[tuple[object, ...], Cost] = {}

    def learn(self, configuration: Configuration, manifest: Manifest) -> None:
        """Add the compiled architecture of a configuration."""
        key = self._study.architecture(configuration)
        if key in self._manifests:
            return
        self._manifests[key] = manifest, works(manifest)
        tables = self._kept.of(key, manifest.artefact_sha256)
        missing = [name for name in self.fleet.types if name not in tables]
        for name in missing:
            tables[name] = coefficients(self._profiles[name], manifest)
        self._tables[key] = np.stack([tables[name] for name in self.fleet.types])
        if missing:
            self._keep(self._kept.keep(key, manifest.artefact_sha256, tables))

    def knows(self, configuration: Configuration) -> bool:
        """Whether the architecture has been compiled."""
        return self._study.architecture(configuration) in self._manifests

    def of_architecture(self, key: str, calibration: Calibration) -> ArchitectureCosts:
        """Costs of an architecture's configurations, under a calibration."""
        at = key, factors(calibration)
        if at not in self._costs:
            if len(self._costs) > 4 * len(self._manifests):  # those of outdated calibrations
                self._costs.clear()
            manifest, _ = self._manifests[key]
            self._costs[at] = ArchitectureCosts(
                self.fleet,
                self._tables[key],
                manifest.micro_batch,
                calibration,
                manifest.parameters,
                lambda: self._own_table(key),
            )
        return self._costs[at]

    def _own_table(self, key: str) -> Array:
        """Coefficients of what federated algorithms add, for an architecture."""
        if key not in self._own_tables:
            manifest, _ = self._manifests[key]
            tables = [algorithm_coefficients(self._profiles[n], manifest) for n in self.fleet.types]
            self._own_tables[key] = np.stack(tables)
        return self._own_tables[key]

    def of(self, configuration: Configuration, calibration: Calibration) -> FleetCosts:
        """Costs of a configuration, without intervals."""
        key = self._study.architecture(configuration)
        return self.of_architecture(key, calibration).of(configuration)

    def forecast(
        self, configuration: Configuration, calibration: Calibration | None = None
    ) -> Forecast:
        """Costs on each device type with intervals, the clients that can take part, constraints."""
        calibration = calibration or {}
        at = intervals(calibration)
        kept = self._forecasts.setdefault(at, {})
        while len(self._forecasts) > _KEPT_CALIBRATIONS:
            self._forecasts.pop(next(iter(self._forecasts)))
        if configuration.key not in kept:
            kept[configuration.key] = self._forecast(configuration, calibration)
        return kept[configuration.key]

    def _forecast(self, configuration: Configuration, calibration: Calibration) -> Forecast:
        fleet, costs = self.fleet, self.of(configuration, calibration)
        fits, devices = costs.fits, dict[str, DeviceForecast]()
        for index, name in sorted(enumerate(fleet.types), key=lambda pair: pair[1]):
            own = fleet.group_types == index
            by = calibration.get(name, NO_CORRECTIONS)
            cost = corrected(self._predict(index, configuration), by)
            devices[name] = DeviceForecast(
                clients=fleet.clients_of[name],
                fitting=fleet.fitting(name, fits),
                cost=_with_values(cost, costs.figures[index]),
                slack={
                    limit: float(gaps[own].max())
                    for limit, gaps in zip(fleet.limit_names, costs.gaps, strict=True)
                    if getattr(fleet.limits[name], limit) is not None
                },
            )
        taking_part = (
            client
            for group, fit in zip(fleet.groups, fits, strict=True)
            if fit
            for client in group.clients
        )
        return Forecast(
            devices,
            tuple(sorted(taking_part)),
            dict(sorted(costs.constraints.items())),
            costs.measures,
        )

    def _predict(self, index: int, configuration: Configuration) -> Cost:
        """The uncalibrated prediction for the device type's mean client, with intervals."""
        key = self._study.architecture(configuration)
        settings, name = client_settings(configuration), self.fleet.types[index]
        samples = self.fleet.mean_samples[name]
        size, epochs = int(settings["batch_size"]), int(settings["local_epochs"])
        rounds = self.fleet.rounds_a_client(configuration)
        algorithm = self._algorithm(configuration)
        at = name, key, size, epochs, rounds, algorithm
        if at not in self._predicted:
            manifest, work = self._manifests[key]
            calls = calls_per_round(math.ceil(samples), size, epochs, manifest.micro_batch)
            load = workload(manifest, work, calls=calls, rounds=rounds, samples=samples)
            if not algorithm.is_plain:
                added = self._added(algorithm, configuration, samples)
                load = with_algorithm(load, added, manifest)
            self._predicted[at] = predict(self._profiles[name], load)
        return self._predicted[at]

    def _algorithm(self, configuration: Configuration) -> Algorithm:
        return Algorithm.of(configuration, self._study.server)

    def _added(
        self, algorithm: Algorithm, configuration: Configuration, samples: float
    ) -> AlgorithmWork:
        """What the algorithm adds to the work of a client with so many samples."""
        manifest, _ = self._manifests[self._study.architecture(configuration)]
        return algorithm_work(
            algorithm,
            configuration,
            parameters=manifest.parameters,
            micro_batch=manifest.micro_batch,
            samples=samples,
        )

    def expected(self, configuration: Configuration) -> dict[int, Expected]:
        """Uncalibrated predictions of what each client will report."""
        found = dict[int, Expected]()
        manifest, work = self._manifests[self._study.architecture(configuration)]
        settings, algorithm = client_settings(configuration), self._algorithm(configuration)
        size, epochs = int(settings["batch_size"]), int(settings["local_epochs"])
        rounds = self.fleet.rounds_a_client(configuration)
        for name, same in groupby(self.fleet.groups, key=lambda group: group.profile):
            groups, profile, loads = list(same), self._profiles[name], []
            for group in groups:
                calls = calls_per_round(group.samples, size, epochs, manifest.micro_batch)
                load = workload(manifest, work, calls=calls, rounds=rounds, samples=group.samples)
                if not algorithm.is_plain:
                    added = self._added(algorithm, configuration, group.samples)
                    load = with_algorithm(load, added, manifest)
                loads.append(load)
            watts, link = computing_w(profile, "one"), Link.of(profile)
            power = None if watts is None else watts.estimate()
            evaluate_ms = call_ms(profile, work["evaluate"])
            costs = predict_training(profile, loads)
            for group, load, cost in zip(groups, loads, costs, strict=True):
                step = 1.0 if algorithm.is_plain else step_factor(profile, load)
                transfer_s = link.download_s(load.weight_bytes + load.more_received_bytes)
                transfer_s += link.upload_s(load.weight_bytes + load.more_sent_bytes)
                expected = Expected(
                    name,
                    manifest.micro_batch,
                    cost.step_ms * step,
                    evaluate_ms,
                    cost.memory_mib,
                    power,
                    link,
                    cost.training_s.value + transfer_s,
                )
                found |= dict.fromkeys(group.clients, expected)
        return found

    def deadline_s(self, profile: str) -> float | None:
        """Time limit of a round on this device type in seconds; None where there is none."""
        return self.fleet.limits[profile].round_s


def intervals(calibration: Calibration) -> object:
    """All of a calibration that a forecast depends on: not how many reports it rests on."""
    return tuple(
        (name, *((each.factor, each.low, each.high, each.simulated, each.scatter, each.reports > 0)
                 for each in (by.training, by.inference, by.memory, by.power)))
        for name, by in sorted(calibration.items())
    )  # fmt: skip


def _with_values(cost: Cost, figures: Array) -> Cost:
    """The cost with these values ``[measure]``, which differ from its own by rounding only."""
    return replace(
        cost,
        **{
            name: replace(
                estimate, value=value, low=min(estimate.low, value), high=max(estimate.high, value)
            )
            for name, value in zip(MEASURES, figures.tolist(), strict=True)
            if (estimate := getattr(cost, name)) is not None
        },
    )
