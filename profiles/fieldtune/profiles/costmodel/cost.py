"""Predicted cost of a configuration on a device type: time, memory, storage, traffic and energy.

Compute time comes from :mod:`fieldtune.profiles.costmodel.latency`; memory, storage, bytes and
energy are sums, documented at the functions that compute them. Intervals are 90 % intervals
(:mod:`fieldtune.profiles.common.estimate`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fieldtune.profiles.common.estimate import Estimate, Quantity, Span
from fieldtune.profiles.costmodel.latency import LatencyModel, Threads, thread_count
from fieldtune.profiles.costmodel.rate_spans import higher_is_worse
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.profiles.device.value import ProfileValue

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
PLAIN_COPIES = Span(1.0, 1.1, 1.5)  # the runtime's own kernels repack few
# Weights stored as float16, in addition: they are unpacked to float32, of twice the size. A file
# takes 3.4 times its size in memory with ai-edge-litert 2.3 on x86-64, and 5 times in NetsPresso's
# tables of Raspberry Pis, where a repacked copy is kept beside the unpacked one.
HALF_COPIES = Span(1.0, 2.0, 3.0)
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
    more_sent_bytes: float = 0.0  # one round, beyond weight_bytes; negative where it is less
    more_received_bytes: float = 0.0  # likewise
    corrections_per_round: float = 0.0  # of all weights, between two steps
    weight_tensors: int = 0  # that a correction copies; for these alone
    personal_steps: float = 0.0  # calls of train before a trial's last evaluation
    kept_copies: float = 0.0  # of all the weights that the algorithm keeps in memory, in addition


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
_PLAIN_MODEL = Quantity.of("model", PLAIN_COPIES)
_HALF = Quantity.of("half precision", HALF_COPIES)
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
    load, burst = workload, LatencyModel(profile, threads)
    inference_ms = burst.call_ms(load.infer)
    joules = inference_mj(profile, inference_ms, threads)
    computing = _Computing(LatencyModel(profile, threads, lasting=True), load)
    step_ms, compute_s = computing.step_ms, computing.round_s(load)
    # Per round and direction: weights * protocol + message. The artefact is downloaded once.
    message_up = _message(load.weight_bytes + load.more_sent_bytes)
    message_down = _message(load.weight_bytes + load.more_received_bytes)
    artefact = _PROTOCOL * float(load.artefact_bytes)
    # A participating device downloads the artefact once; below one expected round, a fraction.
    downloads = min(1.0, load.rounds)
    sent = message_up * load.rounds
    round_s: Estimate | None = None
    energy_j: Quantity | None = None
    training_j: Quantity | None = None
    power = computing_w(profile, threads)
    if power is not None:
        training_j = power * compute_s * load.rounds
        if load.personal_steps:
            training_j += power * step_ms * (load.personal_steps / 1e3)
    link = _Link.of(profile)
    if link is not None:
        transfer_s, fetching_s = link.round_s(message_down, message_up), artefact * link.down
        first, later = compute_s + transfer_s + fetching_s, compute_s + transfer_s
        round_s = first.estimate()
        round_s = round_s.within(min(later.estimate().low, round_s.low), round_s.high)
        if training_j is not None and profile.idle_w is not None and profile.radio_w is not None:
            idle_w = Quantity.of("idle", higher_is_worse(profile.idle_w))
            transfer_w = idle_w + Quantity.of("radio", higher_is_worse(profile.radio_w))
            # Trial: rounds * (W * compute + transfer W * transfer) + transfer W * artefact.
            airtime_s = (message_down * link.usual + message_up * link.usual_up) * load.rounds
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
        received_bytes=(message_down * load.rounds + artefact * downloads).estimate(),
    )


@dataclass(frozen=True)
class TrainingCost:
    """What a round of training costs a device; see :class:`Cost`."""

    step_ms: Estimate
    training_s: Estimate
    memory_mib: Estimate


def predict_training(profile: DeviceProfile, workloads: Sequence[Workload]) -> list[TrainingCost]:
    """As :func:`predict` with one thread, in far less time.

    Args:
        profile: the device type.
        workloads: of one artefact and algorithm; they differ in steps and samples.
    """
    computing = _Computing(LatencyModel(profile, "one", lasting=True), workloads[0])
    step_ms = computing.step_ms.estimate()
    return [
        TrainingCost(
            step_ms,
            computing.round_s(load).estimate(),
            _training_memory(profile, load).estimate(),
        )
        for load in workloads
    ]


class _Computing:
    """How long devices of one type compute in a round.

    Args:
        model: their speeds.
        load: like those that are asked for; these differ in how often something is done.
    """

    def __init__(self, model: LatencyModel, load: Workload) -> None:
        self._model, self._load = model, load
        self.step_ms = model.call_ms(load.step)

    def round_s(self, load: Workload) -> Quantity:
        """Of a round: steps * step + evaluations * evaluate + corrections * correction."""
        compute_s = self.step_ms * (load.steps_per_round / 1e3)
        if load.evaluations_per_round:
            compute_s += self._evaluate_ms * (load.evaluations_per_round / 1e3)
        if load.corrections_per_round:
            compute_s += self._correction_ms * (load.corrections_per_round / 1e3)
        return compute_s

    @cached_property
    def _evaluate_ms(self) -> Quantity:
        return self._model.call_ms(self._load.evaluate)

    @cached_property
    def _correction_ms(self) -> Quantity:
        work = correction_work(self._load.weight_bytes, self._load.weight_tensors)
        return self._model.call_ms(work)


def _message(payload_bytes: float) -> Quantity:
    return _PROTOCOL * payload_bytes + _MESSAGE


def correction_work(weight_bytes: float, tensors: int) -> Work:
    """The work of adding to all weights between two steps: they are read, changed and written.

    Args:
        weight_bytes: of all weights.
        tensors: in which they lie.
    """
    count = weight_bytes / 4
    return Work(
        {
            "variable": OpWork(2 * tensors, 0.0, 4 * weight_bytes),
            "elementwise": OpWork(1, 2 * count, 3 * weight_bytes),
        }
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

    def round_s(self, received: Quantity, sent: Quantity) -> Quantity:
        """Both directions of a round: bytes / down + bytes / up + round trips * latency."""
        return received * self.down + sent * self.up + _TRIPS * self.latency_s


def _seconds_per_byte(name: str, rate: ProfileValue) -> Quantity:
    return Quantity.of(name, (8e-6 / rate.high, 8e-6 / rate.value, 8e-6 / rate.low))


def _process_memory(name: str, measured: ProfileValue | None, default: Span) -> Quantity:
    return Quantity.of(name, default if measured is None else higher_is_worse(measured))


def _training_memory(profile: DeviceProfile, load: Workload) -> Quantity:
    """Peak: process + (artefact + arena + weights + data, each with its copies) / 2^20."""
    size = (
        _ARTEFACT * float(load.artefact_bytes)
        + _ARENA * float(load.train_arena_bytes)
        + (_WEIGHTS + load.kept_copies) * float(load.weight_bytes)
        + float(load.data_bytes)
    )
    return _process_memory("process", profile.process_mib, PROCESS_MIB) + size * (1 / MIB)


def inference_memory(
    profile: DeviceProfile,
    model_bytes: int,
    arena_bytes: int,
    *,
    half_bytes: float = 0.0,
    plain: bool = False,
) -> Quantity:
    """Peak memory of a process that runs a model.

    Args:
        profile: the device type.
        model_bytes: of the file.
        arena_bytes: of its tensors.
        half_bytes: of its weights that are stored as float16.
        plain: whether the runtime has no XNNPACK.

    Returns:
        MiB: process + (model * copies + float16 weights * further copies + arena) / 2^20.
    """
    size = (_PLAIN_MODEL if plain else _MODEL) * float(model_bytes)
    size += _HALF * float(half_bytes) + _ARENA * float(arena_bytes)
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
