"""What the federated algorithm adds to a client's work in a round, beyond plain training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.encoding import encoded_bytes
from fieldtune.profiles.costmodel.cost import Workload, correction_work, predict
from fieldtune.profiles.costmodel.latency import LatencyModel
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.coefficients import (
    CALLS_X_ROUNDS,
    calls_per_round,
    values,
    workload,
    works,
)
from fieldtune.server.study.settings import Algorithm, client_settings
from fieldtune.server.study.space import Configuration

Array = NDArray[np.float64]

CONTROL_COPIES, RESIDUAL_COPIES = 2, 2
"""Vectors of all weights that a device holds: the correction and the weights that it changes; the
residual and the update that is encoded."""


@dataclass(frozen=True)
class AlgorithmWork:
    """The additional work of clients; each a number, or an array over clients ``[...]``."""

    sent_bytes: float
    """In a round, more than float32 weights; negative where updates are smaller."""
    received_bytes: float
    evaluations: Array | float
    """Calls of ``evaluate`` in a round, on training samples."""
    corrections: Array | float
    """In a round; of all weights."""
    copies: float
    """Of all weights, that are held in memory."""
    personal_steps: Array | float
    """Calls of ``train`` before a trial's last evaluation."""


def algorithm_work(
    algorithm: Algorithm,
    configuration: Configuration,
    *,
    parameters: int,
    micro_batch: int,
    samples: Array | float,
) -> AlgorithmWork:
    """The additional work of clients with these numbers of training samples ``[...]``.

    Args:
        algorithm: of the configuration.
        configuration: the batch size and local epochs.
        parameters: weights of the model.
        micro_batch: of the artefact.
        samples: rounded up to whole ones.
    """
    settings, full = client_settings(configuration), 4 * parameters
    size, epochs = int(settings["batch_size"]), int(settings["local_epochs"])
    n = np.ceil(np.asarray(samples, float))
    steps = np.ceil(n / size)  # of an epoch
    received = 2 * parameters if algorithm.download == "float16" else full
    shrinks = algorithm.update != "float32"
    return AlgorithmWork(
        sent_bytes=encoded_bytes(algorithm.update, parameters, algorithm.topk_share) - full,
        received_bytes=received - full + full * algorithm.corrects_drift,
        evaluations=np.ceil(n / micro_batch) * algorithm.measures_loss,
        corrections=epochs * steps * algorithm.corrects_drift,
        copies=CONTROL_COPIES * algorithm.corrects_drift + RESIDUAL_COPIES * shrinks,
        personal_steps=np.vectorize(personal_calls, otypes=[float])(
            algorithm.personal_steps, n, size, micro_batch
        )
        if algorithm.personal_steps
        else 0.0,
    )


def personal_calls(steps: int, samples: float, batch_size: int, micro_batch: int) -> int:
    """Calls of ``train`` in this many steps, which go through the samples epoch by epoch."""
    if not steps or not samples:
        return 0
    epochs, rest = divmod(steps, math.ceil(samples / batch_size))
    full = math.ceil(batch_size / micro_batch)
    return epochs * calls_per_round(int(samples), batch_size, 1, micro_batch) + rest * full


def with_algorithm(load: Workload, work: AlgorithmWork, manifest: Manifest) -> Workload:
    """A workload with this additional work of one client."""
    return replace(
        load,
        more_sent_bytes=work.sent_bytes,
        more_received_bytes=work.received_bytes,
        evaluations_per_round=float(work.evaluations),
        corrections_per_round=float(work.corrections),
        weight_tensors=len(manifest.weights),
        personal_steps=float(work.personal_steps),
        kept_copies=work.copies,
    )


def step_factor(profile: DeviceProfile, load: Workload) -> float:
    """How much longer a call of ``train`` takes with its share of the corrections after it."""
    if not load.corrections_per_round:
        return 1.0
    model = LatencyModel(profile, "one", lasting=True)
    correction = model.call_ms(correction_work(load.weight_bytes, load.weight_tensors)).value
    share = load.corrections_per_round / load.steps_per_round
    return 1 + share * correction / model.call_ms(load.step).value


_UNITS = {"sent_bytes": 4096.0, "received_bytes": 4096.0, "evaluations": 1.0, "corrections": 1.0}
"""For how much of each the cost is predicted: of one byte, rounding would leave little."""


def algorithm_coefficients(profile: DeviceProfile, manifest: Manifest) -> Array:
    """Coefficients of the additional work's costs on a device type ``[measure, term]``.

    The terms are, for each of :data:`_UNITS`, the amount in a round, and the amount times the
    rounds; and last the copies. Personal steps cost what calls of ``train`` do.
    """
    work = works(manifest)
    nothing = AlgorithmWork(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def at(rounds: float, added: AlgorithmWork) -> Array:
        load = workload(manifest, work, calls=0, rounds=rounds, samples=0)
        return values(predict(profile, with_algorithm(load, added, manifest)))

    once, twice = at(1, nothing), at(2, nothing)
    columns = []
    for name, unit in _UNITS.items():
        added = replace(nothing, **{name: unit})
        one, two = (at(1, added) - once) / unit, (at(2, added) - twice) / unit
        columns += [2 * one - two, two - one]
    columns.append(at(1, replace(nothing, copies=1.0)) - once)
    return np.stack(columns, axis=1)


def additional(table: Array, own: Array, work: AlgorithmWork, rounds: float) -> Array:
    """Costs ``[...]`` of the additional work.

    Args:
        table: coefficients of plain training ``[..., term]``, for personal steps.
        own: coefficients of the additional work ``[..., term]``.
        work: of clients, in arrays that go with ``[...]``.
        rounds: of a trial in which a client takes part.
    """
    total = own[..., -1] * work.copies + table[..., CALLS_X_ROUNDS] * work.personal_steps
    for index, name in enumerate(_UNITS):
        amount = getattr(work, name)
        total = total + (own[..., 2 * index] + own[..., 2 * index + 1] * rounds) * amount
    return np.asarray(total)
