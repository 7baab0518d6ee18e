"""Further trials that are expected to improve the Pareto front most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldtune.server.bo.candidates import Judge, fill_pool
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.objective_model import Kernel
from fieldtune.server.bo.sampler import GreySampler
from fieldtune.server.bo.surrogate import Posterior
from fieldtune.server.bo.threads import one_thread
from fieldtune.server.bo.trial_points import Places
from fieldtune.server.bo.trial_rows import Row
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Configuration, Space
from fieldtune.server.tuner.optuna_tuner import distribution

SETTLED = 0.01
"""No further trials are suggested that are expected to add less than this share of hypervolume."""


@dataclass(frozen=True)
class Prospect:
    """A suggested configuration, and the hypervolume that it is expected to add."""

    configuration: Configuration
    gain: float
    """As a share of the present hypervolume; infinite where there is no front yet."""


def prospects(
    space: Space,
    objectives: Sequence[Objective],
    outcomes: Sequence[Completed],
    formulas: Formulas,
    *,
    seed: int,
    most: int,
) -> list[Prospect]:
    """Suggested trials, the one with the largest expected improvement first; at most ``most``.

    Each is chosen assuming that those before it turn out as predicted.
    """
    signs = [objective.sign for objective in objectives]
    encoding = Encoding.of({n: distribution(each) for n, each in space.parameters().items()})
    judge = Judge(encoding, formulas, signs)
    places = Places(encoding, judge)
    pool = fill_pool(encoding, judge, seed).candidates
    startup = GreySampler(seed=0).startup_of(len(encoding.axes))
    rows = [
        Row(
            outcome.proposal.number,
            "measured",
            outcome.proposal.configuration.flat(),
            tuple(each.sign * outcome.objectives[each.name] for each in objectives),
            {},
        )
        for outcome in outcomes
    ]
    if not rows:
        return []
    found: list[Prospect] = []
    kernels: Mapping[str, Kernel] = {}
    with one_thread():
        while len(found) < most:
            posterior = Posterior(
                places, rows, pool, len(signs), startup=startup, kernels=kernels,
                refit=not found, margin=None,
            )  # fmt: skip
            kernels = posterior.kernels
            allowed = pool.take(posterior.feasible(pool))
            gains = posterior.improvement(allowed)
            best = int(np.argmax(gains)) if len(gains) else -1
            covered = posterior.standing.covered
            if best < 0 or gains[best] <= SETTLED * covered:
                break
            (values,) = encoding.values(allowed.units[best : best + 1])
            share = gains[best] / covered if covered else np.inf
            found.append(Prospect(space.configuration(values), float(share)))
            rows = [*rows, replace(rows[0], number=-len(found), state="pending", params=values,
                                   values=())]  # fmt: skip
    return found
