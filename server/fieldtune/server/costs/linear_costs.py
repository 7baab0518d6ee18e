"""What configurations of one architecture cost on a fleet, fast enough to ask thousands of times.

For one artefact on one device type every cost is linear in the calls of a round, in the rounds, in
``min(1, rounds)`` (the one download) and in the client's samples. So a few predictions give the
coefficients, and a configuration's constraints and objectives are a few sums over the fleet. The
values are :class:`~fieldtune.server.costs.forecast.Forecaster`'s own, without the intervals; a test
compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.costmodel.calibration import NONE, Corrections
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.forecast import (
    WORST_OF_FLEET,
    Forecaster,
    calls_per_round,
)
from fieldtune.server.study.config import COST_MEASURES
from fieldtune.server.study.settings import client_settings
from fieldtune.server.study.space import Configuration

Array = NDArray[np.float64]

_SAMPLES = 4096
"""Samples at which a cost's share of the data is read off; bytes are whole, so not too few."""


@dataclass(frozen=True)
class Prices:
    """A configuration's limits and measures, as the formulas have them."""

    constraints: Mapping[str, float]
    measures: Mapping[str, float]
    """Of the whole fleet; infinite where no device fits."""


class Tariff:
    """Costs of one architecture on a fleet.

    Args:
        forecaster: of the fleet.
        rates: coefficients of each cost on each device type, in the order of the forecaster's
            ``sizes``, ``[profile, measure, 6]``; see :func:`_used`.
        micro_batch: of the artefact.
        corrections: of each device type that has reported, with which limits are judged.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        rates: Array,
        micro_batch: int,
        corrections: Mapping[str, Corrections],
    ) -> None:
        self.rates, self.micro_batch = rates, micro_batch
        self._forecaster = forecaster
        kinds, profiles, limits = forecaster.kinds, list(forecaster.sizes), forecaster.limit_names
        self._profile = np.array([profiles.index(kind.profile) for kind in kinds])
        self._samples = np.array([kind.samples for kind in kinds])
        self._clients = np.array([len(kind.clients) for kind in kinds])
        self._means = np.array([forecaster.mean_samples[name] for name in profiles])
        caps = [
            [getattr(forecaster.limits[kind.profile], name) or np.inf for kind in kinds]
            for name in limits
        ]
        self._caps = np.array(caps).reshape(len(limits), len(kinds))
        seen = np.stack(
            [
                _corrected(each, corrections.get(name, NONE))
                for name, each in zip(profiles, rates, strict=True)
            ]
        )
        measures = [_RATED.index(name) for name in limits]
        self._limited = seen[self._profile][:, measures].transpose(1, 0, 2)
        self._calls: dict[tuple[int, int], tuple[Array, Array]] = {}

    @classmethod
    def of(
        cls,
        forecaster: Forecaster,
        manifest: Manifest,
        corrections: Mapping[str, Corrections],
    ) -> Tariff:
        """The tariff of a compiled artefact."""
        rates = np.stack([_rates(forecaster, name, manifest) for name in forecaster.sizes])
        return cls(forecaster, rates, manifest.micro_batch, corrections)

    def corrected(self, corrections: Mapping[str, Corrections]) -> Tariff:
        """The same, with limits judged by other corrections."""
        return Tariff(self._forecaster, self.rates, self.micro_batch, corrections)

    def scaled(self, factors: Array, corrections: Mapping[str, Corrections]) -> Tariff:
        """A tariff that is dearer by these factors ``[profile, measure]``."""
        rates = self.rates * factors[:, :, None]
        return Tariff(self._forecaster, rates, self.micro_batch, corrections)

    def figures(self, configuration: Configuration) -> Array:
        """Every cost of a client with the mean number of samples, ``[profile, measure]``."""
        rounds = self._forecaster.rounds(configuration)
        _, calls = self._calls_of(configuration)
        return _used(self.rates, calls[:, None], rounds, self._means[:, None])

    def prices(self, configuration: Configuration) -> Prices:
        """What a configuration of this architecture costs."""
        rounds = self._forecaster.rounds(configuration)
        calls, _ = self._calls_of(configuration)
        # [limit, kind]: used / cap - 1; a limit that is not set leaves a client as far as can be.
        gaps = _used(self._limited, calls, rounds, self._samples) / self._caps - 1.0
        worst = gaps.max(axis=0, initial=-1.0)
        gaps = np.concatenate([gaps, worst[None]])
        order = gaps.argsort(axis=1, kind="stable")
        needed = self._forecaster.needed
        last = (self._clients[order].cumsum(axis=1) >= needed).argmax(axis=1)
        at_coverage = gaps[np.arange(len(gaps)), order[np.arange(len(gaps)), last]].tolist()
        names = (*self._forecaster.limit_names, "coverage")
        fitting = np.bincount(self._profile, self._clients * (worst <= 0), len(self._means)).astype(
            float
        )
        return Prices(
            dict(zip(names, at_coverage, strict=True)),
            dict(zip(COST_MEASURES, self._fleet(configuration, fitting), strict=True)),
        )

    def _fleet(self, configuration: Configuration, fitting: Array) -> list[float]:
        """Each measure of the whole fleet, of the device types that take part."""
        if not fitting.any():
            return [np.inf] * len(COST_MEASURES)
        figures = self.figures(configuration)[:, : len(COST_MEASURES)]
        worst = figures[fitting > 0].max(axis=0)
        mean = fitting @ figures / fitting.sum()
        return np.where(_WORST, worst, mean).tolist()  # type: ignore[no-any-return]

    def _calls_of(self, configuration: Configuration) -> tuple[Array, Array]:
        """Calls of the train signature in a round, of each kind and of each type's mean client."""
        settings = client_settings(configuration)
        key = int(settings["batch_size"]), int(settings["local_epochs"])
        if key not in self._calls:
            self._calls[key] = tuple(
                np.array([calls_per_round(int(n), *key, self.micro_batch) for n in samples], float)
                for samples in (self._samples, np.ceil(self._means))
            )  # type: ignore[assignment]
        return self._calls[key]


# The parts of a round's time and of energy that corrections multiply come after the measures.
_RATED = (*COST_MEASURES, "training_s", "training_j")
_WORST = np.array([name in WORST_OF_FLEET for name in COST_MEASURES])


def _rates(forecaster: Forecaster, profile: str, manifest: Manifest) -> Array:
    """Coefficients of each cost on a device type ``[measure, 6]``."""

    def at(calls: float, rounds: float, samples: float) -> Array:
        return _values(
            forecaster.cost(profile, manifest, calls=calls, rounds=rounds, samples=samples)
        )

    base, half = at(0, 1, 0), at(0, 0.5, 0)
    a_round = at(0, 2, 0) - base
    called = at(1, 1, 0)
    a_call_and_round = at(1, 2, 0) - called - a_round
    a_call = called - base - a_call_and_round
    a_sample = (at(0, 1, _SAMPLES) - base) / _SAMPLES
    download = 2 * (base - half) - a_round  # base - half = round / 2 + download / 2
    constant = base - a_round - download
    return np.stack([constant, a_call, a_call_and_round, a_round, download, a_sample], axis=1)


def _used(table: Array, calls: Array, rounds: float, samples: Array) -> Array:
    """Costs by their coefficients: constant, calls, calls x rounds, rounds, download, samples."""
    return np.asarray(
        table[..., 0]
        + table[..., 1] * calls
        + table[..., 2] * (calls * rounds)
        + table[..., 3] * rounds
        + table[..., 4] * min(1.0, rounds)
        + table[..., 5] * samples
    )


def _corrected(rates: Array, by: Corrections) -> Array:
    """Rates ``[measure, 6]`` as :mod:`fieldtune.profiles.costmodel.calibration` has a cost."""
    at = {name: index for index, name in enumerate(_RATED)}
    seen = rates.copy()
    seen[at["inference_ms"]] *= by.inference.factor
    seen[at["memory_mib"]] *= by.memory.factor
    training, power = by.training.factor, by.training.factor * by.power.factor
    seen[at["round_s"]] += (training - 1) * rates[at["training_s"]]
    seen[at["energy_j"]] += (power - 1) * rates[at["training_j"]]
    return seen


def _values(cost: Cost) -> Array:
    """A cost's figures; 0 where the profile does not tell, which no limit or objective asks for."""
    estimates = [getattr(cost, name) for name in _RATED]
    return np.array([0.0 if each is None else each.value for each in estimates])
