"""Objectives and constraints that the tuner knows before a trial: predicted costs.

For an architecture that has been compiled they are those of the cost model. For any other they are
extrapolated from the compiled architectures of the same model: the logarithm of each cost is
assumed to be linear in the logarithms of the model's parameters. A few per cent are added, so that
of two nearly equal candidates the compiled one is preferred. Every proposal is compiled, and its
costs predicted exactly, before it is sent to a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.known import Known
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.architecture_costs import ArchitectureCosts, Calibration, factors
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration, Value

Array = NDArray[np.float64]

_UNCOMPILED_FACTOR = 1.05
"""Extrapolated costs of architectures that are not compiled are multiplied by this."""

_MAX_LOG_RATIO = 5.0
"""An extrapolated cost differs from that of the nearest compiled architecture by at most exp(5)."""

_RIDGE = 0.05
"""Ridge penalty; it limits the slope that a few architectures can give."""


class KnownCosts:
    """Known objectives and constraints of a study's configurations.

    Args:
        study: its objectives and space.
        costs: the cost model of compiled architectures.
    """

    def __init__(self, study: StudyConfig, costs: CostModel) -> None:
        self._study, self._costs, self._space = study, costs, study.full_space
        self._models: dict[str, tuple[str, Array]] = {}
        self._estimated: dict[str, ArchitectureCosts] = {}
        self._known: dict[tuple[Any, ...], Known] = {}
        self._calibration: Calibration = {}
        self._changed = False

    def learn(self, configuration: Configuration, manifest: Manifest) -> None:
        """Add a compiled architecture."""
        self._costs.learn(configuration, manifest)
        key = self._study.architecture(configuration)
        if key not in self._models:
            model, parameters = self._study.model_of(configuration)
            self._models[key] = model, self._point(parameters)
            self._forget()

    def calibrate(self, calibration: Calibration) -> None:
        """Use this calibration from now on."""
        changed = factors(calibration) != factors(self._calibration)
        self._calibration = dict(calibration)
        if changed:
            self._forget()

    def renewed(self) -> bool:
        """Whether anything has changed since the last call of this method."""
        changed, self._changed = self._changed, False
        return changed and bool(self._models)

    def _forget(self) -> None:
        self._estimated.clear()
        self._known.clear()
        self._changed = True

    def allow(self, values: Mapping[str, Value]) -> bool:
        """Whether the limits, as far as they are known, allow a configuration."""
        return all(value <= 0 for value in self(values).constraints.values())

    def __call__(self, values: Mapping[str, Any]) -> Known:
        """Known objectives and constraints of the configuration with these values."""
        configuration = self._space.configuration(values)
        # The other parameters do not change costs, so many configurations share an entry.
        settings = tuple(
            values.get(name) for name in ("batch_size", "local_epochs", "clients_per_round")
        )
        architecture = self._study.architecture(configuration)
        key = (architecture, *settings)
        if key not in self._known:
            self._known[key] = self._of(configuration, architecture)
        return self._known[key]

    def _of(self, configuration: Configuration, architecture: str) -> Known:
        if architecture in self._models:
            costs = self._costs.of_architecture(architecture, self._calibration)
        else:
            costs = self._estimate(configuration, architecture)
        found = costs.of(configuration)
        return Known(
            {
                index: found.measures[objective.name]
                for index, objective in enumerate(self._study.study.objectives)
                if not objective.learned
            },
            found.constraints,
        )

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
            costs = [self._costs.of_architecture(key, self._calibration) for key in same]
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
