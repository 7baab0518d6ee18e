"""Objectives and constraints that the tuner knows before a trial: predicted costs.

For an architecture that has been compiled they are those of the cost model. For any other they are
extrapolated from the compiled architectures of the same model: the logarithm of each cost is
assumed to be linear in the logarithms of the model's parameters. A few per cent are added, so that
of two nearly equal candidates the compiled one is preferred. Every proposal is compiled, and its
costs predicted exactly, before it is sent to a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.known import Known
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.architecture_costs import (
    ArchitectureCosts,
    Calibration,
    FleetCosts,
    factors,
)
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.settings import COST_SETTINGS
from fieldtune.server.study.space import Configuration, Value

Array = NDArray[np.float64]

_UNCOMPILED_FACTOR = 1.05
"""Extrapolated costs of architectures that are not compiled are multiplied by this."""

_MAX_LOG_RATIO = 5.0
"""An extrapolated cost differs from that of the nearest compiled architecture by at most exp(5)."""

_RIDGE = 0.05
"""Ridge penalty; it limits the slope that a few architectures can give."""

_AT_ONCE = 64
"""Configurations whose costs are computed together: memory is this x limits x client groups."""

_MOST_KEPT = 2**16
"""What is known of configurations is forgotten where it is of more than this."""


class KnownCosts:
    """Known objectives and constraints of a study's configurations.

    Args:
        study: its objectives and space.
        costs: the cost model of compiled architectures.
    """

    def __init__(self, study: StudyConfig, costs: CostModel) -> None:
        self._study, self._costs, self._space = study, costs, study.full_space
        self._models: dict[str, tuple[str, Array]] = {}
        self._refused: set[str] = set()
        """Architectures that cannot be compiled."""
        self._estimated: dict[str, ArchitectureCosts] = {}
        parameters = self._space.parameters()
        self._parameters = tuple(parameters)
        # The other parameters do not change costs, so many configurations share an entry.
        settings = [name for name in COST_SETTINGS if name in parameters]
        self._keyed = (*self._space.model, *settings)
        self._architectures: dict[tuple[str, ...], str] = {}
        self._compiled: dict[tuple[str, ...], Known] = {}
        self._others: dict[tuple[str, ...], Known] = {}
        """Of compiled architectures, and of others, by the values on which costs depend."""
        self._costly = [(i, o.name) for i, o in enumerate(study.study.objectives) if not o.learned]
        self._calibration: Calibration = {}
        self._changed = False

    def learn(self, configuration: Configuration, manifest: Manifest) -> None:
        """Add a compiled architecture."""
        self._costs.learn(configuration, manifest)
        key = self._study.architecture(configuration)
        if key not in self._models:
            model, parameters = self._study.model_of(configuration)
            self._models[key] = model, self._point(parameters)
            self._forget_estimates()

    def rule_out(self, configuration: Configuration) -> None:
        """Add an architecture that cannot be compiled: no limits allow it."""
        self._refused.add(self._study.architecture(configuration))
        self._forget_estimates()

    def calibrate(self, calibration: Calibration) -> None:
        """Use this calibration from now on."""
        changed = factors(calibration) != factors(self._calibration)
        self._calibration = dict(calibration)
        if changed:
            self._compiled.clear()
            self._forget_estimates()

    def renewed(self) -> bool:
        """Whether anything has changed since the last call of this method."""
        changed, self._changed = self._changed, False
        return changed and bool(self._models)

    def _forget_estimates(self) -> None:
        self._estimated.clear()
        self._others.clear()
        self._changed = True

    def allow(self, values: Mapping[str, Value]) -> bool:
        """Whether the limits, as far as they are known, allow a configuration."""
        return all(value <= 0 for value in self(values).constraints.values())

    def __call__(self, values: Mapping[str, Any]) -> Known:
        """Known objectives and constraints of the configuration with these values."""
        key = self._key(values)
        known = self._compiled.get(key) or self._others.get(key)
        if known is None:
            self.prepare_many([values])
            known = self._compiled.get(key) or self._others[key]
        return known

    def prepare_many(self, configurations: Sequence[Mapping[str, Any]]) -> None:
        """Compute what is known of many, in less time than one by one."""
        for kept in (self._compiled, self._others, self._architectures):
            if len(kept) > _MOST_KEPT:
                kept.clear()
        missing: dict[str, dict[tuple[str, ...], Configuration]] = {}
        for values in configurations:
            key = self._key(values)
            if key not in self._compiled and key not in self._others:
                configuration = self._space.configuration(values)
                model = key[: len(self._space.model)]
                if model not in self._architectures:
                    self._architectures[model] = self._study.architecture(configuration)
                missing.setdefault(self._architectures[model], {})[key] = configuration
        for architecture, asked in missing.items():
            compiled, first = architecture in self._models, next(iter(asked.values()))
            costs = (
                self._costs_of(architecture) if compiled else self._estimate(first, architecture)
            )
            found = self._compiled if compiled else self._others
            keys = list(asked)
            for at in range(0, len(keys), _AT_ONCE):
                some = keys[at : at + _AT_ONCE]
                for key, each in zip(some, costs.of_many([asked[k] for k in some]), strict=True):
                    found[key] = self._known(each, refused=architecture in self._refused)

    def _key(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Equal for configurations with equal costs; raises KeyError where a value is missing."""
        for name in self._parameters:
            if name not in values:
                raise KeyError(name)
        return tuple([repr(values[name]) for name in self._keyed])

    def _costs_of(self, architecture: str) -> ArchitectureCosts:
        return self._costs.of_architecture(architecture, self._calibration)

    def _known(self, found: FleetCosts, *, refused: bool) -> Known:
        values = {index: found.measures[name] for index, name in self._costly}
        constraints = dict(found.constraints)
        if refused:
            constraints = {name: max(value, 1.0) for name, value in constraints.items()}
        return Known(values, constraints)

    def _estimate(self, configuration: Configuration, architecture: str) -> ArchitectureCosts:
        """Extrapolated costs of an architecture that is not compiled.

        A ridge regression of the logarithm of each cost on the model's parameters gives the factor
        by which it differs from the nearest compiled architecture.
        """
        if architecture not in self._estimated:
            model, parameters = self._study.model_of(configuration)
            # Sorted, so that sums and ties do not depend on the order of compilation.
            learned = sorted(self._models)
            same = [key for key in learned if self._models[key][0] == model] or learned
            costs = [self._costs_of(key) for key in same]
            point, x = self._point(parameters), np.array([self._models[key][1] for key in same])
            nearest = int(((x - point) ** 2).sum(axis=1).argmin())
            figures = np.array([each.predicted(self._space.defaults()) for each in costs])
            logs = np.log(np.maximum(figures, 1e-300))
            centred = x - x.mean(axis=0)
            gram = centred @ centred.T + _RIDGE * np.eye(len(x))
            weights = np.linalg.solve(gram, centred @ (point - x.mean(axis=0)))
            middle = logs.mean(axis=0)
            estimated = middle + np.tensordot(weights, logs - middle, 1)
            factors = _UNCOMPILED_FACTOR * np.exp(
                np.clip(estimated - logs[nearest], -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
            )
            self._estimated[architecture] = ArchitectureCosts(
                self._costs.fleet,
                costs[nearest].table * factors[:, :, None],
                costs[nearest].micro_batch,
                self._calibration,
                costs[nearest].parameters,
                lambda: costs[nearest].own() * factors[:, :, None],
            )
        return self._estimated[architecture]

    def _point(self, parameters: Mapping[str, Value]) -> Array:
        """The model's parameters as a vector: logarithms of numbers, one-hot encoded choices."""
        columns: list[float] = []
        for name, parameter in self._space.model.items():
            if name == "model":
                continue
            value = parameters[name]
            if isinstance(value, (str, bool)):
                columns += [float(choice == value) for choice in parameter.choices or ()]
            else:
                columns.append(math.log1p(max(float(value), 0.0)))
        return np.array(columns)
