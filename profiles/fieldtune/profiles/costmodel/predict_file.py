"""What any ``.tflite`` file costs on device types: latency, memory, energy and storage.

The file is only read. A file with several signatures is predicted by the one that infers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import OWN, Estimate, Quantity
from fieldtune.profiles.costmodel.cost import MIB, inference_memory, inference_mj
from fieldtune.profiles.costmodel.kernel_costs import PUBLISHED, UNKNOWN, UNPUBLISHED
from fieldtune.profiles.costmodel.latency import LatencyModel, latency_kind
from fieldtune.profiles.costmodel.tflite_reader import UNCOUNTED, Runtime, TfliteFile
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile

_LOOP = "other.while"
_CONTROL = (_LOOP, "other.if", "other.call")
"""Kernels whose work is that of other subgraphs."""
_MATRIX_VECTOR = "matmul.fully_connected.row"
"""Published networks have one at their end, of a few per cent."""
_OTHER_PRECISION = 4.0
"""Factor by which int8 kernels may differ from the float32 ones that were measured."""
_MENTIONED = 0.05
"""Share of a latency from which a kernel is named."""


@dataclass(frozen=True)
class FilePrediction:
    """What one inference of a file costs on one device type; names end with units."""

    model: str
    device: str
    threads: int
    signature: str
    latency_ms: Estimate
    latency_basis: str
    """How the latency is known: measured, fitted (and its error for models left out), estimated."""
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
            "latency_basis": self.latency_basis,
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
            half = file.half_bytes(signature)
        except UsageError as error:
            raise UsageError(f"{model}: {error}") from None
        for name, profile in devices.items():
            count = int(profile.cores.value) if threads == "all" else threads
            latency, kernels, unpublished = _latency(profile, work, count)
            energy = inference_mj(profile, latency, count)
            yield FilePrediction(
                model=model,
                device=name,
                threads=count,
                signature=signature,
                latency_ms=latency.estimate(),
                latency_basis=_basis(profile, work, count, runtime, latency.value) + unpublished,
                peak_memory_mib=inference_memory(
                    profile, len(content), arena, half_bytes=half, plain=runtime == "plain"
                ).estimate(),
                energy_mj=None if energy is None else energy.estimate(),
                storage_mib=len(content) / MIB,
                kernels_ms=kernels,
            )


def _latency(
    profile: DeviceProfile, work: Work, threads: int
) -> tuple[Quantity, dict[str, float], str]:
    """The latency, each kernel's part of it, and what is said of kernels without a measurement."""
    model = LatencyModel(profile, threads)
    each = {name: model.kernel_ms(name, op) for name, op in work.classes.items()}
    latency = model.call_ms(work)
    parts: dict[float, float] = defaultdict(float)
    unsure, unknown = list[str](), list[str]()
    for name, ms in each.items():
        if profile.classes and profile.rates[name] is not None:
            if _unmeasured_precision(profile, name):
                parts[_OTHER_PRECISION] += ms
            continue
        op = ".".join(name.split(".")[1:2])
        if name.startswith("other.") and not name.startswith(_CONTROL):
            parts[UNKNOWN] += ms
            unknown.append(op)
        elif name.startswith(_MATRIX_VECTOR) or not name.startswith(("call", *PUBLISHED)):
            parts[UNPUBLISHED] += ms
            if ms > _MENTIONED * latency.value or name.startswith(_LOOP):
                unsure.append(op)
    # What runs in a loop is not in any published latency either.
    if any(name.startswith(_LOOP) for name in each):
        parts[UNKNOWN if UNCOUNTED in each else UNPUBLISHED] = latency.value
    for factor, ms in parts.items():
        ends = min(ms, latency.value) * (1 / factor - 1), ms * (factor - 1)
        latency += Quantity(0.0, {f"{OWN} unpublished {factor:g}": ends})
    said = ""
    if unsure:
        said += f"; without a published latency, and unsure: {', '.join(dict.fromkeys(unsure))}"
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        said += f"; not known, and counted as an operation an element of the results: {names}"
    if UNCOUNTED in each:
        said += "; a loop counts once, as the file does not say how often it runs"
    return latency, dict(sorted(each.items(), key=lambda pair: -pair[1])), said


def _unmeasured_precision(profile: DeviceProfile, kernel: str) -> str:
    """``int8`` or ``dynamic`` for a kernel of it, where a profile has measured none; else empty."""
    found = next((each for each in ("int8", "dynamic") if each in kernel.split(".")), "")
    return "" if any(found in name.split(".") for name in profile.classes) else found


def _basis(
    profile: DeviceProfile, work: Work, threads: int, runtime: Runtime, latency_ms: float
) -> str:
    overheads_us = profile.python_call_us.value + profile.op_dispatch_us.value * work.ops
    mostly = "; mostly overheads, which are estimates" if overheads_us > 500 * latency_ms else ""
    if profile.classes:
        other = {_unmeasured_precision(profile, name) for name in work.classes} - {""}
        if other:
            return (
                f"not measured: estimate (no {' or '.join(sorted(other))} kernel was measured; "
                "as fast as those of float32)"
            )
        if threads > 1:
            return "kernels measured with one thread (more threads gain what the profile states)"
        held_out = profile.held_out.get(latency_kind(work, threads, runtime))
        if held_out is None:
            return "measured kernels"
        return f"measured kernels (nine in ten graphs left out within {100 * held_out.most:.0f} %)"
    if any("dynamic" in name for name in work.classes):
        return f"not fitted: estimate (dynamic-range kernels have no published latency){mostly}"
    kind = latency_kind(work, threads, runtime)
    held_out = profile.held_out.get(kind)
    if held_out is None:
        return f"not fitted: estimate (no latency of the kind {kind!r} was fitted){mostly}"
    within = f"nine in ten within {100 * held_out.most:.0f} %"
    return f"fitted ({kind}; {held_out.left_out} left out: {within}){mostly}"


def _read(model: str) -> bytes:
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise UsageError(f"{model}: cannot be read: {error.strerror}") from None
