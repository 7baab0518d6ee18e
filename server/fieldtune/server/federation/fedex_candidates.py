"""The client configurations that share one training, drawn around the proposed one.

As in FedEx's experiments (Khodak et al. 2021, arXiv 2106.04502) they are a random configuration and
others near it. All of them are feasible, so whichever is chosen in the end can be deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldtune.server.outcomes.trial import Forecast
from fieldtune.server.study.space import Configuration, Parameter, Space, Value

_DRAWS_PER_CANDIDATE = 50
"""Draws per wanted configuration; fewer configurations are returned if that does not suffice."""
_STREAM = 0xFEDE
"""Makes this random stream differ from the others of a trial."""


@dataclass(frozen=True)
class Candidate:
    """A configuration with its forecast."""

    configuration: Configuration
    forecast: Forecast


def candidates_around(
    asked: Candidate,
    *,
    space: Space,
    count: int,
    radius: float,
    forecast: Callable[[Configuration], Forecast],
    seed: int,
) -> list[Candidate]:
    """The proposed configuration, and others that differ from it in client parameters only.

    Args:
        asked: the proposed one, which becomes the first.
        space: its ``client`` parameters are varied.
        count: number of configurations, fewer where the limits or the space allow fewer.
        radius: how far each parameter may be from that of ``asked``, as a share of its range; with
            1 they are drawn uniformly from the whole space.
        forecast: predicts a configuration's costs.
        seed: of the trial.
    """
    rng = np.random.default_rng([seed, _STREAM])
    found = {asked.configuration.key: asked}
    for _ in range(_DRAWS_PER_CANDIDATE * (count - 1)):
        if len(found) == count:
            break
        client = {
            name: _near(parameter, asked.configuration.client[name], radius, rng)
            for name, parameter in space.client.items()
        }
        configuration = replace(asked.configuration, client=client)
        if configuration.key not in found:
            candidate = Candidate(configuration, forecast(configuration))
            if candidate.forecast.feasible:
                found[configuration.key] = candidate
    return list(found.values())


def _near(parameter: Parameter, value: Value, radius: float, rng: np.random.Generator) -> Value:
    """A random value at most ``radius`` away, or a neighbouring one if values are further apart.

    Reflected at the ends of the range, so that with radius 1 the whole range is equally likely.
    """
    count = parameter.count()
    if count == 1:
        return value
    if count is not None:
        radius = max(radius, 1 / count)
    place = abs(parameter.fraction(value) + rng.uniform(-radius, radius))
    return parameter.at(2 - place if place > 1 else place)


def who_may_train(candidates: Sequence[Candidate]) -> dict[int, tuple[int, ...]]:
    """Client -> indices of the configurations that fit on it."""
    fitting = [frozenset(each.forecast.participants) for each in candidates]
    return {
        client: tuple(index for index, clients in enumerate(fitting) if client in clients)
        for client in sorted(frozenset().union(*fitting))
    }
