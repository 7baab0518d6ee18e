"""Differentially private averaging at the coordinator (DP-FedAvg).

McMahan et al. 2018 (arXiv 1710.06963, algorithm 1 with the estimator f_f): each participant takes
part in a round with the same probability, independently of the others; its update is clipped to a
fixed norm; noise is added to the sum; and the sum is divided by the expected number of clients, not
by the actual one. So nothing about the mean depends on one device by more than its clipped update,
and devices are not weighted by their samples. What the server optimizer makes of the mean is
post-processing.

In a simulation sampling and noise come from the trial's seed, as all that is random: its figures
are those of utility. On devices both come from the operating system's generator, so that nobody can
subtract the noise; a round that is done again after an interruption then has other bits.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.plan import Plan
from fieldtune.server.study.private_averaging import PrivateAveraging
from fieldtune.server.study.settings import server_settings

_SAMPLING, _NOISE = 0xD1, 0xD2


def sampled_independently(plan: Plan, number: int) -> list[int]:
    """The clients of a round, ascending; there may be none."""
    chance = _expected(plan) / len(plan.participants)
    drawn = _random(plan, number, _SAMPLING).random(len(plan.participants)) < chance
    return sorted(int(client) for client, taken in zip(plan.participants, drawn, strict=True)
                  if taken)  # fmt: skip


def private_mean(
    plan: Plan, number: int, private: PrivateAveraging, start: Weights, updates: Sequence[Weights]
) -> Weights:
    """The weights in place of a round's updates, float32.

    Args:
        plan: of the training.
        number: of the round.
        private: clipping and noise.
        start: the weights that the clients began with.
        updates: trained weights, finite.
    """
    total = np.zeros(start.shape, np.float64)
    for weights in updates:
        update = weights.astype(np.float64) - start
        total += update * min(1.0, private.clip / max(float(np.linalg.norm(update)), 1e-300))
    random = _random(plan, number, _NOISE)
    total += random.normal(0.0, private.noise * private.clip, start.shape)
    return np.asarray(start + total / _expected(plan), np.float32)


def _expected(plan: Plan) -> int:
    """The expected number of clients of a round."""
    count = int(server_settings(plan.configuration)["clients_per_round"])
    return min(count, len(plan.participants))


def _random(plan: Plan, number: int, stream: int) -> np.random.Generator:
    if plan.secret:
        return np.random.default_rng(secrets.randbits(128))
    return np.random.default_rng([plan.seed, number, stream])
