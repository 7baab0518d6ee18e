"""The client configurations that share one training, drawn around the one that was asked for.

As in FedEx's experiments (Khodak et al. 2021, arXiv 2106.04502) they are a random one and others
near it. What the limits rule out is not among them, so whichever is chosen can be deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldtune.server.outcomes.trial import Forecast
from fieldtune.server.study.space import Configuration, Parameter, Space, Value

_TRIES = 50
"""Draws for each configuration that is wanted, before there are fewer."""
_STREAM = 0xFEDE
"""Tells this generator from the others of a trial."""


@dataclass(frozen=True)
class Candidate:
    """A configuration, and what it costs on which clients."""

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
    """The configuration that was asked for, and others that differ from it on the client only.

    Args:
        asked: the first of them.
        space: its ``client`` parameters are what may differ.
        count: of all together; there are fewer where the limits or the space leave fewer.
        radius: how far each parameter may be from that of ``asked``, as a share of its range; with
            1 they are spread evenly over the whole space.
        forecast: of a configuration.
        seed: of the trial.
    """
    rng = np.random.default_rng([seed, _STREAM])
    found = {asked.configuration.key: asked}
    for _ in range(_TRIES * (count - 1)):
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
    """A value at most ``radius`` away, or the next one where values lie further apart.

    Reflected at the ends of the range: with radius 1 all of it is equally likely.
    """
    count = parameter.count()
    if count == 1:
        return value
    if count is not None:
        radius = max(radius, 1 / count)
    place = abs(parameter.fraction(value) + rng.uniform(-radius, radius))
    return parameter.at(2 - place if place > 1 else place)


def who_may_train(candidates: Sequence[Candidate]) -> dict[int, tuple[int, ...]]:
    """Client -> indices of the configurations that the limits allow it."""
    fitting = [frozenset(each.forecast.participants) for each in candidates]
    return {
        client: tuple(index for index, clients in enumerate(fitting) if client in clients)
        for client in sorted(frozenset().union(*fitting))
    }
