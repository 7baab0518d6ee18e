"""What a configuration costs on a device type, in the device's own currency.

Time of computing comes from :mod:`fieldtune.profiles.costmodel.roofline`; memory, storage, bytes
and energy are sums whose terms stand beside them. Intervals are of 90 %
(:mod:`fieldtune.profiles.common.estimate`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fieldtune.profiles.common.estimate import Estimate, Quantity, Span
from fieldtune.profiles.costmodel.roofline import Roofline, Threads, call_ms, dearer
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile, Figure

__all__ = ["Cost", "Estimate", "Workload", "call_ms", "predict", "untold"]

_LINK = ("download_mbit_s", "upload_mbit_s", "latency_ms")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "round_s": _LINK,
    "energy_j": (*_LINK, "idle_w", "loaded_w", "radio_w"),
}
"""Figures that a profile may leave out, by the quantities of a Cost that need them."""

# Resident memory of the process that trains, MiB: Python, numpy, flwr and a TFLite runtime in one
# process (imports of flwr 65 MB on an aarch64 virtual machine, runtime and training about 35 MB
# more; a whole one-process node 100 MB on x86-64). Stock flwr nodes, one process a part, take
# about 284 MB: for those, lower the profile's free memory.
PROCESS_MIB = Span(85.0, 105.0, 140.0)
# The same for a process that only runs the deployed model: Python, numpy and a runtime took 38 MB
# (tflite-runtime) and 47 MB (ai-edge-litert) on an aarch64 virtual machine.
INFERENCE_PROCESS_MIB = Span(34.0, 45.0, 60.0)
# Copies of all the weights that live at the peak of a round: the message as received, the arrays
# unpacked from it, the runtime's variables, its gradient accumulators, the optimizer's momentum,
# the reply; with Adam and a packed reply two more, once the message is freed fewer.
WEIGHT_COPIES = Span(3.0, 6.0, 8.0)
ARTEFACT_COPIES = Span(1.0, 2.0, 3.0)  # the file mapped; the message that brought it, unpacked
ARENA_FACTOR = Span(1.0, 1.0, 1.5)  # XNNPACK's workspaces come beside the planned arena
MODEL_COPIES = Span(1.0, 2.0, 2.5)  # XNNPACK packs the weights of a deployed model anew
PROTOCOL_FACTOR = Span(1.0, 1.03, 1.10)  # TLS, HTTP/2 and TCP/IP headers on the payload
MESSAGE_BYTES = Span(1_000.0, 4_000.0, 16_000.0)  # metrics and metadata of a message
ROUND_TRIPS = Span(2.0, 4.0, 10.0)  # asking for the message, fetching it, pushing the reply
STORED_WEIGHTS = Span(1.0, 1.0, 2.0)  # at the dear end the old ones are kept beside the new
MIB = 2.0**20


@dataclass(frozen=True)
class Workload:
    """What a configuration asks of a device that takes part."""

    infer: Work  # one inference, batch 1, of the deployable float variant
    step: Work  # one call of the train signature (one micro-batch)
    evaluate: Work  # one call of the evaluate signature
    steps_per_round: float  # calls of train in one round on one client
    rounds: float  # expected rounds that one device takes part in over a whole trial
    artefact_bytes: int
    model_bytes: int  # deployable fp32 .tflite
    weight_bytes: int  # one direction, one round
    train_arena_bytes: int
    infer_arena_bytes: int
    data_bytes: int  # the client's samples, as the arrays that it trains on
    evaluations_per_round: float = 1.0  # calls of evaluate in one round on one client


@dataclass(frozen=True)
class Cost:
    """What a workload costs on one device; the unit ends the name.

    ``None`` is a quantity that needs a figure which the device's profile does not tell.
    """

    inference_ms: Estimate
    step_ms: Estimate
    round_s: Estimate | None
    training_s: Estimate  # of a round, the part that is computing
    memory_mib: Estimate
    inference_memory_mib: Estimate
    storage_mib: Estimate
    energy_j: Estimate | None  # whole trial
    training_j: Estimate | None  # of a whole trial, the part that is computing
    sent_bytes: Estimate  # whole trial
    received_bytes: Estimate  # whole trial


def untold(profile: DeviceProfile, measure: str) -> tuple[str, ...]:
    """Figures that a quantity of a Cost needs and that a profile does not tell."""
    return tuple(name for name in NEEDS.get(measure, ()) if getattr(profile, name) is None)


_PROTOCOL = Quantity.of("protocol", PROTOCOL_FACTOR)
_MESSAGE = Quantity.of("message", MESSAGE_BYTES)
_TRIPS = Quantity.of("round trips", ROUND_TRIPS)
_WEIGHTS = Quantity.of("weights", WEIGHT_COPIES)
_ARTEFACT = Quantity.of("artefact", ARTEFACT_COPIES)
_ARENA = Quantity.of("arena", ARENA_FACTOR)
_MODEL = Quantity.of("model", MODEL_COPIES)
_STORED = Quantity.of("stored", STORED_WEIGHTS)


def predict(profile: DeviceProfile, workload: Workload, *, threads: Threads = "one") -> Cost:
    """Predict what a workload costs on a device of a type.

    Times are those of a device at its sustained speed. ``round_s`` is a device's first round in the
    trial, in which it also downloads the artefact, because a deadline must hold for that one too;
    its low end is a later round. ``memory_mib`` is the training process's peak. ``energy_j`` covers
    the computing and transferring of all the rounds of a trial, without the idle time between
    rounds, which the device would spend anyway. The published powers under load are of all cores,
    so the value overstates what one thread takes; the low end of ``loaded_w`` is one busy core.

    Args:
        profile: the device type.
        workload: what is asked of it.
        threads: ``one`` (what a client gives its interpreter) or ``all`` the device's cores.

    Returns:
        estimates with ``low <= value <= high``: 90 % intervals, from the profile's intervals and
        from those of the model's constants.
    """
    roofline = Roofline(profile, threads)
    load = workload
    inference_ms, step_ms = roofline.call_ms(load.infer), roofline.call_ms(load.step)
    # Of a round: steps * step + evaluations * evaluate.
    compute_s = step_ms * (load.steps_per_round / 1e3)
    if load.evaluations_per_round:
        compute_s += roofline.call_ms(load.evaluate) * (load.evaluations_per_round / 1e3)
    # One direction of a round: weights * protocol + message; the artefact's only download.
    message = _PROTOCOL * float(load.weight_bytes) + _MESSAGE
    artefact = _PROTOCOL * float(load.artefact_bytes)
    # A device that takes part at all fetches the artefact once; below one round, in expectation.
    downloads = min(1.0, load.rounds)
    sent = message * load.rounds
    round_s: Estimate | None = None
    energy_j: Quantity | None = None
    training_j: Quantity | None = None
    if profile.loaded_w is not None:
        training_j = Quantity.of("loaded", dearer(profile.loaded_w)) * compute_s * load.rounds
    link = _Link.of(profile)
    if link is not None:
        transfer_s, fetching_s = link.round_s(message), artefact * link.down
        first, later = compute_s + transfer_s + fetching_s, compute_s + transfer_s
        round_s = first.estimate()
        round_s = Estimate(round_s.value, min(later.estimate().low, round_s.low), round_s.high)
        if training_j is not None and profile.idle_w is not None and profile.radio_w is not None:
            idle_w = Quantity.of("idle", dearer(profile.idle_w))
            transfer_w = idle_w + Quantity.of("radio", dearer(profile.radio_w))
            # Trial: rounds * (loaded W * compute + transfer W * transfer) + transfer W * artefact.
            energy_j = training_j + transfer_w * transfer_s * load.rounds
            energy_j += transfer_w * fetching_s * downloads
    return Cost(
        inference_ms=inference_ms.estimate(),
        step_ms=step_ms.estimate(),
        round_s=round_s,
        training_s=compute_s.estimate(),
        memory_mib=_training_memory(profile, load).estimate(),
        inference_memory_mib=_inference_memory(profile, load).estimate(),
        storage_mib=_storage(load).estimate(),
        energy_j=None if energy_j is None else energy_j.estimate(),
        training_j=None if training_j is None else training_j.estimate(),
        sent_bytes=sent.estimate(),
        received_bytes=(sent + artefact * downloads).estimate(),
    )


@dataclass(frozen=True)
class _Link:
    """A device's link: seconds that a byte takes down and up, and a round trip."""

    down: Quantity
    up: Quantity
    latency_s: Quantity

    @classmethod
    def of(cls, profile: DeviceProfile) -> "_Link | None":
        """None where the profile does not tell all of it."""
        down, up, latency = profile.download_mbit_s, profile.upload_mbit_s, profile.latency_ms
        if down is None or up is None or latency is None:
            return None
        return cls(
            _seconds_a_byte("download", down),
            _seconds_a_byte("upload", up),
            Quantity.of("latency", dearer(latency)) * 1e-3,
        )

    def round_s(self, message: Quantity) -> Quantity:
        """Both directions of a round: bytes / down + bytes / up + round trips * latency."""
        return message * self.down + message * self.up + _TRIPS * self.latency_s


def _seconds_a_byte(name: str, rate: Figure) -> Quantity:
    return Quantity.of(name, (8e-6 / rate.high, 8e-6 / rate.value, 8e-6 / rate.low))


def _process(name: str, measured: Figure | None, otherwise: Span) -> Quantity:
    return Quantity.of(name, otherwise if measured is None else dearer(measured))


def _training_memory(profile: DeviceProfile, load: Workload) -> Quantity:
    """Peak: process + (artefact + arena + weights + data, each with its copies) / 2^20."""
    size = (
        _ARTEFACT * float(load.artefact_bytes)
        + _ARENA * float(load.train_arena_bytes)
        + _WEIGHTS * float(load.weight_bytes)
        + float(load.data_bytes)
    )
    return _process("process", profile.process_mib, PROCESS_MIB) + size * (1 / MIB)


def _inference_memory(profile: DeviceProfile, load: Workload) -> Quantity:
    """Peak: process + (model * copies + arena) / 2^20."""
    size = _MODEL * float(load.model_bytes) + _ARENA * float(load.infer_arena_bytes)
    process = _process("process", profile.inference_process_mib, INFERENCE_PROCESS_MIB)
    return process + size * (1 / MIB)


def _storage(load: Workload) -> Quantity:
    """Files: (artefact + model + weights + data) / 2^20."""
    files = float(load.artefact_bytes + load.model_bytes + load.data_bytes)
    return (_STORED * float(load.weight_bytes) + files) * (1 / MIB)
