"""What is known of a configuration before it is tried, for the tuner to search by.

Where the architecture has been compiled, costs and limits are exact. Of one that has not, they are
read off those of the same model that have: the logarithm of each figure is taken to be linear in
the logarithms of the model's knobs, and a little dearer for being a guess, so that of two nearly
equal proposals the one that needs no compiling comes first. Whatever is proposed is compiled and
forecast exactly before any device is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.costmodel.calibration import Corrections
from fieldtune.server.bo.known import Known
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.forecast import Forecaster
from fieldtune.server.costs.linear_costs import Tariff
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import COST_MEASURES, StudyConfig
from fieldtune.server.study.space import Configuration, Value

Array = NDArray[np.float64]

_GUESS = 1.05
"""A figure of an architecture that was not compiled is taken to be so much dearer than guessed."""

_FAR = 5.0
"""A guess is at most so many natural logarithms away from what was seen."""

_RIDGE = 0.05
"""How reluctantly figures follow the knobs, so that two architectures do not make a steep slope."""


_ROUNDED = 0.03
"""Corrections are rounded up to whole multiples of this, in natural logarithms."""


class Formulas:
    """Known objectives and constraints of a study's configurations.

    Args:
        study: its objectives and space.
        forecaster: predicts costs.
        artefacts: tells which configurations share an architecture.
    """

    def __init__(self, study: StudyConfig, forecaster: Forecaster, artefacts: Artefacts) -> None:
        self._study, self._forecaster, self._artefacts = study, forecaster, artefacts
        self._space = study.full_space
        self._tariffs: dict[str, tuple[str, Array, Tariff]] = {}
        self._guesses: dict[str, Tariff] = {}
        self._prices: dict[tuple[Any, ...], Known] = {}
        self._corrections: Mapping[str, Corrections] = {}
        self._changed = False

    def learn(self, configuration: Configuration, manifest: Manifest) -> None:
        """Take in a compiled architecture."""
        key = self._artefacts.key(configuration)
        if key in self._tariffs:
            return
        model, knobs = self._study.model_of(configuration)
        tariff = Tariff.of(self._forecaster, manifest, self._corrections)
        self._tariffs[key] = model, self._place(knobs), tariff
        self._forget()

    def renewed(self) -> bool:
        """Follow the forecaster's corrections; whether anything is new since this was last asked.

        Corrections move a little with every trial. They are rounded up, so that the formulas (and
        all that the tuner has computed from them) only change when it matters.
        """
        corrections = {name: _rounded(by) for name, by in self._forecaster.corrections.items()}
        if corrections != self._corrections:
            self._corrections = corrections
            self._tariffs = {
                key: (model, place, tariff.corrected(corrections))
                for key, (model, place, tariff) in self._tariffs.items()
            }
            self._forget()
        changed, self._changed = self._changed, False
        return changed and bool(self._tariffs)

    def _forget(self) -> None:
        self._guesses.clear()
        self._prices.clear()
        self._changed = True

    def __call__(self, values: Mapping[str, Any]) -> Known:
        """What is known of the configuration with these values."""
        configuration = self._space.configuration(values)
        # The other parameters cost nothing, so many configurations share their figures.
        settings = tuple(
            values.get(name) for name in ("batch_size", "local_epochs", "clients_per_round")
        )
        architecture = self._artefacts.key(configuration)
        key = (architecture, *settings)
        if key not in self._prices:
            self._prices[key] = self._known(configuration, architecture)
        return self._prices[key]

    def _known(self, configuration: Configuration, architecture: str) -> Known:
        if architecture in self._tariffs:
            tariff = self._tariffs[architecture][2]
        else:
            tariff = self._guess(configuration, architecture)
        prices = tariff.prices(configuration)
        return Known(
            {
                index: prices.measures[name]
                for index, objective in enumerate(self._study.study.objectives)
                if (name := objective.removeprefix("-")) in COST_MEASURES
            },
            prices.constraints,
        )

    def _guess(self, configuration: Configuration, architecture: str) -> Tariff:
        """The tariff of an architecture that was not compiled, from those that were.

        Ridge regression of the logarithm of each figure on the knobs says by what factor it
        differs from the nearest one that was compiled.
        """
        if architecture not in self._guesses:
            model, knobs = self._study.model_of(configuration)
            # Sums and ties go by place in this list: by key, not by when each was learned.
            learned = [known for _, known in sorted(self._tariffs.items(), key=itemgetter(0))]
            same = [known for known in learned if known[0] == model] or learned
            place, x = self._place(knobs), np.array([each for _, each, _ in same])
            nearest = int(((x - place) ** 2).sum(axis=1).argmin())
            figures = np.array([tariff.figures(self._space.defaults()) for *_, tariff in same])
            logs = np.log(np.maximum(figures, 1e-300))
            centred = x - x.mean(axis=0)
            gram = centred @ centred.T + _RIDGE * np.eye(len(x))
            pull = np.linalg.solve(gram, centred @ (place - x.mean(axis=0)))
            middle = logs.mean(axis=0)
            guessed = middle + np.tensordot(pull, logs - middle, 1)
            factors = _GUESS * np.exp(np.clip(guessed - logs[nearest], -_FAR, _FAR))
            self._guesses[architecture] = same[nearest][2].scaled(factors, self._corrections)
        return self._guesses[architecture]

    def _place(self, knobs: Mapping[str, Value]) -> Array:
        """The knobs as numbers: logarithms, or one column a choice."""
        columns: list[float] = []
        for name, parameter in self._space.model.items():
            if name == "model":
                continue
            value = knobs[name]
            if isinstance(value, (str, bool)):
                columns += [float(choice == value) for choice in parameter.choices or ()]
            else:
                columns.append(math.log1p(max(float(value), 0.0)))
        return np.array(columns)


def _rounded(by: Corrections) -> Corrections:
    return Corrections(
        **{
            each.name: replace(
                correction := getattr(by, each.name),
                factor=math.exp(_ROUNDED * math.ceil(math.log(correction.factor) / _ROUNDED)),
                low=0.0,
                high=0.0,
                reports=0,
            )
            for each in fields(by)
        }
    )
