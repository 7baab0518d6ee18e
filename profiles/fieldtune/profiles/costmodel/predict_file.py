"""What any ``.tflite`` file costs on device types: latency, memory, energy and storage.

The file is only read. A file with several signatures is predicted by the one that infers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import MIB, inference_memory, inference_mj
from fieldtune.profiles.costmodel.latency import LatencyModel
from fieldtune.profiles.costmodel.tflite_reader import Runtime, TfliteFile
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile


@dataclass(frozen=True)
class FilePrediction:
    """What one inference of a file costs on one device type; names end with units."""

    model: str
    device: str
    threads: int
    signature: str
    latency_ms: Estimate
    peak_memory_mib: Estimate
    """Of the process that runs the model."""
    energy_mj: Estimate | None
    """Of the whole device during an inference; None if its profile lacks the power."""
    storage_mib: float
    kernels_ms: Mapping[str, float]
    """Kernel -> its part of the latency, the largest first."""

    def to_json(self) -> dict[str, Any]:
        """The entry of ``fieldtune predict --format json``."""
        return {
            "model": self.model,
            "device": self.device,
            "threads": self.threads,
            "latency_ms": _interval(self.latency_ms),
            "peak_memory_mib": _interval(self.peak_memory_mib),
            "energy_mj": None if self.energy_mj is None else _interval(self.energy_mj),
            "storage_mib": self.storage_mib,
        }


def _interval(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def predict_files(
    models: Sequence[str],
    devices: Mapping[str, DeviceProfile],
    *,
    threads: int | Literal["all"] = 1,
    runtime: Runtime = "xnnpack",
) -> Iterator[FilePrediction]:
    """Predict each file on each device type.

    Args:
        models: paths, in the order of the results.
        devices: name as given -> profile.
        threads: of the interpreter; at most the device's cores.
        runtime: ``plain`` for a build or an interpreter without XNNPACK.

    Raises:
        UsageError: a file is missing or not TFLite, or a device has fewer cores.
    """
    for name, profile in devices.items():
        cores = int(profile.cores.value)
        if threads != "all" and not 1 <= threads <= cores:
            raise UsageError(
                f"--threads {threads}: {name} has {cores} cores; give 1 to {cores}, or all"
            )
    for model in models:
        content = _read(model)
        try:
            file = TfliteFile(content)
            signature = file.inference_signature
            work, arena = file.work(signature, runtime), file.arena_bytes(signature)
        except UsageError as error:
            raise UsageError(f"{model}: {error}") from None
        for name, profile in devices.items():
            count = int(profile.cores.value) if threads == "all" else threads
            latency, kernels = _latency(profile, work, count)
            energy = inference_mj(profile, latency, count)
            yield FilePrediction(
                model=model,
                device=name,
                threads=count,
                signature=signature,
                latency_ms=latency.estimate(),
                peak_memory_mib=inference_memory(profile, len(content), arena).estimate(),
                energy_mj=None if energy is None else energy.estimate(),
                storage_mib=len(content) / MIB,
                kernels_ms=kernels,
            )


def _latency(profile: DeviceProfile, work: Work, threads: int) -> tuple[Any, dict[str, float]]:
    model = LatencyModel(profile, threads)
    each = {name: model.kernel_ms(name, op) for name, op in work.classes.items()}
    return model.call_ms(work), dict(sorted(each.items(), key=lambda pair: -pair[1]))


def _read(model: str) -> bytes:
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise UsageError(f"{model}: cannot be read: {error.strerror}") from None
