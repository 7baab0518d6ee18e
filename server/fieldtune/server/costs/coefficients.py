"""An architecture's costs on a device type, as coefficients of a linear model.

Every cost is linear in the terms: calls of the train signature per round, those times the rounds,
the rounds, ``min(1, rounds)`` (the one download of the artefact) and the client's samples. A few
predictions with the device profile determine the coefficients; the costs of thousands of
configurations of the architecture are then a few sums each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.costmodel.calibration import Corrections
from fieldtune.profiles.costmodel.cost import Cost, Workload, predict
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.study.objectives import COST_MEASURES

Array = NDArray[np.float64]

TERMS = ("constant", "calls", "calls x rounds", "rounds", "download", "samples")
CALLS_X_ROUNDS = TERMS.index("calls x rounds")
MEASURES = (*COST_MEASURES, "training_s", "training_j")
"""Costs in the order of a table's rows. The last two are the computing part of a round's time and
of a trial's energy: only these are multiplied by the correction factors."""

_SAMPLES = 4096
"""Samples for which the cost of the data is predicted; large, since bytes are rounded."""


def calls_per_round(samples: int, batch_size: int, local_epochs: int, micro_batch: int) -> int:
    """Number of calls of the artefact's train signature in one round of a client."""
    full, rest = divmod(samples, batch_size)
    calls = full * math.ceil(batch_size / micro_batch) + math.ceil(rest / micro_batch)
    return local_epochs * calls


def works(manifest: Manifest) -> dict[str, Work]:
    """Signature -> the work (operations and bytes) of one call."""
    return {name: Work.from_json(each) for name, each in manifest.work.items()}


def workload(
    manifest: Manifest, work: Mapping[str, Work], *, calls: float, rounds: float, samples: float
) -> Workload:
    """The work, transfers and memory of a trial on one client.

    Args:
        manifest: of the artefact.
        work: its signatures', see :func:`works`.
        calls: of the train signature in one round.
        rounds: in which the client takes part.
        samples: training samples of the client.
    """
    sample_bytes = 4 * math.prod(manifest.input_shape) + 4
    return Workload(
        infer=work["infer"],
        step=work["train"],
        evaluate=work["evaluate"],
        steps_per_round=calls,
        evaluations_per_round=0.0,  # not in the rounds: evaluation is a separate request after them
        rounds=rounds,
        artefact_bytes=manifest.artefact_bytes,
        model_bytes=manifest.model_bytes,
        weight_bytes=4 * sum(math.prod(spec.shape) for spec in manifest.weights),
        train_arena_bytes=manifest.train_arena_bytes,
        infer_arena_bytes=manifest.infer_arena_bytes,
        data_bytes=int(samples * sample_bytes),
    )


def coefficients(profile: DeviceProfile, manifest: Manifest) -> Array:
    """Coefficients of each cost of an artefact on a device type ``[measure, term]``.

    In the order of :data:`MEASURES` and :data:`TERMS`; 0 where the profile cannot predict a cost.
    """
    work = works(manifest)

    def at(calls: float, rounds: float, samples: float) -> Array:
        load = workload(manifest, work, calls=calls, rounds=rounds, samples=samples)
        return values(predict(profile, load))

    base, half = at(0, 1, 0), at(0, 0.5, 0)
    a_round = at(0, 2, 0) - base
    called = at(1, 1, 0)
    a_call_and_round = at(1, 2, 0) - called - a_round
    a_call = called - base - a_call_and_round
    a_sample = (at(0, 1, _SAMPLES) - base) / _SAMPLES
    download = 2 * (base - half) - a_round  # base - half = round / 2 + download / 2
    constant = base - a_round - download
    return np.stack([constant, a_call, a_call_and_round, a_round, download, a_sample], axis=1)


def evaluate(table: Array, calls: Array, rounds: Array | float, samples: Array) -> Array:
    """Costs ``[...]`` from their coefficients ``[..., term]``."""
    return np.asarray(
        table[..., 0]
        + table[..., 1] * calls
        + table[..., 2] * (calls * rounds)
        + table[..., 3] * rounds
        + table[..., 4] * np.minimum(1.0, rounds)
        + table[..., 5] * samples
    )


def calibrated(table: Array, by: Corrections) -> Array:
    """Coefficients ``[measure, term]`` of the calibrated costs.

    Equivalent to :func:`fieldtune.profiles.costmodel.calibration.corrected` for a single cost.
    """
    at = {name: index for index, name in enumerate(MEASURES)}
    training, power = by.training.factor, by.training.factor * by.power.factor
    seen = table.copy()
    seen[at["inference_ms"]] *= by.inference.factor
    seen[at["inference_mj"]] *= by.inference.factor * by.power.factor
    seen[at["memory_mib"]] *= by.memory.factor
    seen[at["round_s"]] += (training - 1) * table[at["training_s"]]
    seen[at["energy_j"]] += (power - 1) * table[at["training_j"]]
    seen[at["training_s"]] *= training
    seen[at["training_j"]] *= power
    return seen


def values(cost: Cost) -> Array:
    """The values of a cost ``[measure]``; 0 where the profile cannot predict one."""
    estimates = [getattr(cost, name) for name in MEASURES]
    return np.array([0.0 if each is None else each.value for each in estimates])
