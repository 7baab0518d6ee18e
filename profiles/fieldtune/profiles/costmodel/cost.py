"""Predicted cost of a configuration on a device type: time, memory, storage, traffic and energy.

Compute time comes from :mod:`fieldtune.profiles.costmodel.latency`; memory, storage, bytes and
energy are sums, documented at the functions that compute them. Intervals are 90 % intervals
(:mod:`fieldtune.profiles.common.estimate`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fieldtune.profiles.common.estimate import Estimate, Quantity, Span
from fieldtune.profiles.costmodel.latency import (
    LatencyModel,
    Threads,
    call_ms,
    higher_is_worse,
    thread_count,
)
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile, ProfileValue

__all__ = ["Cost", "Estimate", "Workload", "call_ms", "missing_values", "predict"]

_LINK = ("download_mbit_s", "upload_mbit_s", "latency_ms")
REQUIRED_VALUES: Mapping[str, tuple[str, ...]] = {
    "round_s": _LINK,
    "inference_mj": ("loaded_w",),
    "energy_j": (*_LINK, "idle_w", "loaded_w", "radio_w"),
}
"""Quantity of a Cost -> the optional profile values that predicting it requires."""

# Resident memory of the process that trains, MiB: Python, numpy, flwr and a TFLite runtime in one
# process (imports of flwr 65 MB on an aarch64 virtual machine, runtime and training about 35 MB
# more; a whole one-process node 100 MB on x86-64). Stock flwr nodes use several processes and take
# about 284 MB: for those, lower the profile's free memory.
PROCESS_MIB = Span(85.0, 105.0, 140.0)
# The same for a process that only runs the deployed model: Python, numpy and a runtime take 38 MB
# (tflite-runtime) and 47 MB (ai-edge-litert) on an aarch64 virtual machine.
INFERENCE_PROCESS_MIB = Span(34.0, 45.0, 60.0)
# Copies of all the weights in memory at the peak of a round: the received message, the arrays
# unpacked from it, the runtime's variables, its gradient accumulators, the optimizer's momentum and
# the reply. Adam and a serialised reply add two; freeing the message early saves some.
WEIGHT_COPIES = Span(3.0, 6.0, 8.0)
ARTEFACT_COPIES = Span(1.0, 2.0, 3.0)  # the mapped file, the received message, its unpacked content
ARENA_FACTOR = Span(1.0, 1.0, 1.5)  # XNNPACK's workspaces are not part of the planned arena
MODEL_COPIES = Span(1.0, 2.0, 2.5)  # XNNPACK keeps a repacked copy of a deployed model's weights
PROTOCOL_FACTOR = Span(1.0, 1.03, 1.10)  # TLS, HTTP/2 and TCP/IP headers on the payload
MESSAGE_BYTES = Span(1_000.0, 4_000.0, 16_000.0)  # metrics and metadata of a message
ROUND_TRIPS = Span(2.0, 4.0, 10.0)  # polling for the message, fetching it, sending the reply
# Time that a radio works on a transfer, relative to bytes over the link's usual rate: a crowded
# channel is mostly waited for, at rest; packets are sent again.
AIRTIME = Span(0.6, 1.0, 1.6)
STORED_WEIGHTS = Span(1.0, 1.0, 2.0)  # upper end: the previous weights are kept as well
MIB = 2.0**20


@dataclass(frozen=True)
class Workload:
    """The work of one device that participates in a trial."""

    infer: Work  # one inference, batch 1, of the deployable float variant
    step: Work  # one call of the train signature (one micro-batch)
    evaluate: Work  # one call of the evaluate signature
    steps_per_round: float  # calls of train in one round on one client
    rounds: float  # expected number of rounds of a trial in which one device participates
    artefact_bytes: int
    model_bytes: int  # deployable fp32 .tflite
    weight_bytes: int  # one direction, one round
    train_arena_bytes: int
    infer_arena_bytes: int
    data_bytes: int  # the client's samples, as the arrays that it trains on
    evaluations_per_round: float = 1.0  # calls of evaluate in one round on one client


@dataclass(frozen=True)
class Cost:
    """What a workload costs on one device; each name ends with its unit.

    ``None``: the quantity requires a value that the device's profile does not have.
    """

    inference_ms: Estimate
    step_ms: Estimate
    round_s: Estimate | None
    training_s: Estimate  # compute time of a round
    memory_mib: Estimate
    inference_memory_mib: Estimate
    storage_mib: Estimate
    energy_j: Estimate | None  # whole trial
    training_j: Estimate | None  # compute energy of a whole trial
    sent_bytes: Estimate  # whole trial
    received_bytes: Estimate  # whole trial
    inference_mj: Estimate | None = None  # of the whole device; absent in earlier versions' files


def missing_values(profile: DeviceProfile, measure: str) -> tuple[str, ...]:
    """Values that a quantity of a Cost requires and that a profile does not have."""
    return tuple(
        name for name in REQUIRED_VALUES.get(measure, ()) if getattr(profile, name) is None
    )


_PROTOCOL = Quantity.of("protocol", PROTOCOL_FACTOR)
_MESSAGE = Quantity.of("message", MESSAGE_BYTES)
_TRIPS = Quantity.of("round trips", ROUND_TRIPS)
_WEIGHTS = Quantity.of("weights", WEIGHT_COPIES)
_ARTEFACT = Quantity.of("artefact", ARTEFACT_COPIES)
_ARENA = Quantity.of("arena", ARENA_FACTOR)
_MODEL = Quantity.of("model", MODEL_COPIES)
_AIRTIME = Quantity.of("airtime", AIRTIME)
_STORED = Quantity.of("stored", STORED_WEIGHTS)


def predict(profile: DeviceProfile, workload: Workload, *, threads: Threads = "one") -> Cost:
    """Predict the cost of a workload on a device type.

    Training is at the device's sustained speed, an inference at its full speed. ``round_s`` is a
    device's first round in the trial, in which it also downloads the artefact, because the deadline
    must hold for that round too; its low end is a later round. ``memory_mib`` is the peak of the
    training process. ``energy_j`` covers compute and transfer in all rounds of a trial, but not
    idle time (between rounds, and while a message is on its way), during which the device would
    consume power anyway.

    Args:
        profile: the device type.
        workload: what the device has to do.
        threads: ``one`` (as a client sets up its interpreter) or ``all`` cores of the device.

    Returns:
        estimates with ``low <= value <= high``: 90 % intervals, from the intervals of the profile
        and of the cost model's constants.
    """
    burst, lasting = LatencyModel(profile, threads), LatencyModel(profile, threads, lasting=True)
    load = workload
    inference_ms, step_ms = burst.call_ms(load.infer), lasting.call_ms(load.step)
    joules = inference_mj(profile, inference_ms, threads)
    # Per round: steps * step + evaluations * evaluate.
    compute_s = step_ms * (load.steps_per_round / 1e3)
    if load.evaluations_per_round:
        compute_s += lasting.call_ms(load.evaluate) * (load.evaluations_per_round / 1e3)
    # Per round and direction: weights * protocol + message. The artefact is downloaded once.
    message = _PROTOCOL * float(load.weight_bytes) + _MESSAGE
    artefact = _PROTOCOL * float(load.artefact_bytes)
    # A participating device downloads the artefact once; below one expected round, a fraction.
    downloads = min(1.0, load.rounds)
    sent = message * load.rounds
    round_s: Estimate | None = None
    energy_j: Quantity | None = None
    training_j: Quantity | None = None
    power = computing_w(profile, threads)
    if power is not None:
        training_j = power * compute_s * load.rounds
    link = _Link.of(profile)
    if link is not None:
        transfer_s, fetching_s = link.round_s(message), artefact * link.down
        first, later = compute_s + transfer_s + fetching_s, compute_s + transfer_s
        round_s = first.estimate()
        round_s = round_s.within(min(later.estimate().low, round_s.low), round_s.high)
        if training_j is not None and profile.idle_w is not None and profile.radio_w is not None:
            idle_w = Quantity.of("idle", higher_is_worse(profile.idle_w))
            transfer_w = idle_w + Quantity.of("radio", higher_is_worse(profile.radio_w))
            # Trial: rounds * (W * compute + transfer W * transfer) + transfer W * artefact.
            airtime_s = (message * link.usual + message * link.usual_up) * load.rounds
            airtime_s += artefact * (link.usual * downloads)
            energy_j = training_j + transfer_w * airtime_s * _AIRTIME
    return Cost(
        inference_ms=inference_ms.estimate(),
        inference_mj=None if joules is None else joules.estimate(),
        step_ms=step_ms.estimate(),
        round_s=round_s,
        training_s=compute_s.estimate(),
        memory_mib=_training_memory(profile, load).estimate(),
        inference_memory_mib=inference_memory(
            profile, load.model_bytes, load.infer_arena_bytes
        ).estimate(),
        storage_mib=_storage(load).estimate(),
        energy_j=None if energy_j is None else energy_j.estimate(),
        training_j=None if training_j is None else training_j.estimate(),
        sent_bytes=sent.estimate(),
        received_bytes=(sent + artefact * downloads).estimate(),
    )


@dataclass(frozen=True)
class _Link:
    """A device's network link: seconds per byte down and up, and the round-trip time."""

    down: Quantity
    up: Quantity
    latency_s: Quantity
    usual: float  # seconds per byte at the rates' values
    usual_up: float

    @classmethod
    def of(cls, profile: DeviceProfile) -> "_Link | None":
        """The link of a profile; None if one of its values is missing."""
        down, up, latency = profile.download_mbit_s, profile.upload_mbit_s, profile.latency_ms
        if down is None or up is None or latency is None:
            return None
        return cls(
            _seconds_per_byte("download", down),
            _seconds_per_byte("upload", up),
            Quantity.of("latency", higher_is_worse(latency)) * 1e-3,
            8e-6 / down.value,
            8e-6 / up.value,
        )

    def round_s(self, message: Quantity) -> Quantity:
        """Both directions of a round: bytes / down + bytes / up + round trips * latency."""
        return message * self.down + message * self.up + _TRIPS * self.latency_s


def _seconds_per_byte(name: str, rate: ProfileValue) -> Quantity:
    return Quantity.of(name, (8e-6 / rate.high, 8e-6 / rate.value, 8e-6 / rate.low))


def _process_memory(name: str, measured: ProfileValue | None, default: Span) -> Quantity:
    return Quantity.of(name, default if measured is None else higher_is_worse(measured))


def _training_memory(profile: DeviceProfile, load: Workload) -> Quantity:
    """Peak: process + (artefact + arena + weights + data, each with its copies) / 2^20."""
    size = (
        _ARTEFACT * float(load.artefact_bytes)
        + _ARENA * float(load.train_arena_bytes)
        + _WEIGHTS * float(load.weight_bytes)
        + float(load.data_bytes)
    )
    return _process_memory("process", profile.process_mib, PROCESS_MIB) + size * (1 / MIB)


def inference_memory(profile: DeviceProfile, model_bytes: int, arena_bytes: int) -> Quantity:
    """Peak MiB of a process that runs a model: process + (model * copies + arena) / 2^20."""
    size = _MODEL * float(model_bytes) + _ARENA * float(arena_bytes)
    process = _process_memory("process", profile.inference_process_mib, INFERENCE_PROCESS_MIB)
    return process + size * (1 / MIB)


def computing_w(profile: DeviceProfile, threads: Threads) -> Quantity | None:
    """Power of the whole device while threads compute; None if its profile lacks it.

    From one core to all of them it grows evenly. A profile without ``one_core_w`` is taken at
    ``loaded_w``.
    """
    if profile.loaded_w is None:
        return None
    every = Quantity.of("loaded", higher_is_worse(profile.loaded_w))
    if profile.one_core_w is None:
        return every
    one = Quantity.of("one core", higher_is_worse(profile.one_core_w))
    cores = int(profile.cores.value)
    part = (thread_count(profile, threads) - 1) / (cores - 1) if cores > 1 else 1.0
    return one * (1.0 - part) + every * part


def inference_mj(profile: DeviceProfile, latency_ms: Quantity, threads: Threads) -> Quantity | None:
    """Energy of the whole device during an inference; None if its profile lacks the power."""
    power = computing_w(profile, threads)
    return None if power is None else power * latency_ms


def _storage(load: Workload) -> Quantity:
    """Files: (artefact + model + weights + data) / 2^20."""
    files = float(load.artefact_bytes + load.model_bytes + load.data_bytes)
    return (_STORED * float(load.weight_bytes) + files) * (1 / MIB)
