"""Configurations as points of the unit cube, for models and for drawing at random."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.study.space import Parameter, Value
from tuner.problem import Problem, Values, ruled_out

_MOST_DRAWS = 20_000


def encode(space: Mapping[str, Parameter], many: Sequence[Values]) -> NDArray[np.float64]:
    """Points ``[n, d]`` in 0..1: logarithms where the space has them, one column a named choice."""
    columns = [
        column
        for name, parameter in space.items()
        for column in _columns(parameter, [values[name] for values in many])
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _columns(parameter: Parameter, values: Sequence[Value]) -> list[list[float]]:
    if parameter.choices is not None:
        numbers = not any(isinstance(choice, (str, bool)) for choice in parameter.choices)
        if numbers:  # by rank: 8, 16, 32 are evenly apart
            ranks = {choice: rank for rank, choice in enumerate(sorted(parameter.choices))}
            return [[ranks[value] / max(len(ranks) - 1, 1) for value in values]]
        return [[float(value == choice) for value in values] for choice in parameter.choices]
    low, high = parameter.bounds()
    if low == high:
        return [[0.0 for _ in values]]
    if parameter.log:
        low, high = math.log(low), math.log(high)
        values = [math.log(float(value)) for value in values]
    return [[(float(value) - low) / (high - low) for value in values]]


def draw(space: Mapping[str, Parameter], rng: np.random.Generator) -> dict[str, Value]:
    """One configuration, uniform in the space."""
    return {
        name: _plain(parameter.at(float(fraction)))
        for (name, parameter), fraction in zip(space.items(), rng.random(len(space)), strict=True)
    }


def draw_allowed(problem: Problem, rng: np.random.Generator) -> dict[str, Value]:
    """One that the formulas allow; where a long search finds none, any."""
    for _ in range(_MOST_DRAWS):
        values = draw(problem.space, rng)
        if not ruled_out(problem.known(values)):
            break
    return values


def perturb(
    space: Mapping[str, Parameter], values: Values, rng: np.random.Generator, width: float = 0.1
) -> dict[str, Value]:
    """A neighbour: one or more parameters moved a little, or to another choice."""
    moved = dict(values)
    chosen = rng.random(len(space)) < max(1.5 / len(space), 0.3)
    chosen[rng.integers(len(space))] = True
    for (name, parameter), move in zip(space.items(), chosen, strict=True):
        if not move:
            continue
        if parameter.choices is not None:
            moved[name] = parameter.choices[int(rng.integers(len(parameter.choices)))]
        else:
            here = encode({name: parameter}, [values])[0, 0]
            there = float(np.clip(here + rng.normal(0, width), 0, 1 - 1e-12))
            moved[name] = _plain(parameter.at(there))
    return moved


def _plain(value: Value) -> Value:
    """Python's own number, where NumPy made it."""
    return value.item() if isinstance(value, np.generic) else value
