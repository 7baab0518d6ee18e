"""What a configuration costs on a device type, in the device's own currency.

Time of computing comes from :mod:`fieldtune.profiles.roofline`; memory, storage, bytes and energy
are sums whose terms stand beside them. Intervals are of 90 % (:mod:`fieldtune.profiles.uncertain`).
"""

from dataclasses import dataclass

from fieldtune.profiles.device import DeviceProfile, Figure
from fieldtune.profiles.roofline import Roofline, Threads, call_ms, dearer
from fieldtune.profiles.uncertain import Estimate, Quantity, Span
from fieldtune.profiles.work import Work

__all__ = ["Cost", "Estimate", "Workload", "call_ms", "predict"]

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
    """What a workload costs on one device; the unit ends the name."""

    inference_ms: Estimate
    step_ms: Estimate
    round_s: Estimate
    memory_mib: Estimate
    inference_memory_mib: Estimate
    storage_mib: Estimate
    energy_j: Estimate  # whole trial
    sent_bytes: Estimate  # whole trial
    received_bytes: Estimate  # whole trial


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
    down = _seconds_a_byte("download", profile.download_mbit_s)
    up = _seconds_a_byte("upload", profile.upload_mbit_s)
    # Both directions of a round: bytes / down + bytes / up + round trips * latency.
    latency_s = Quantity.of("latency", dearer(profile.latency_ms)) * 1e-3
    transfer_s = message * down + message * up + _TRIPS * latency_s
    fetching_s = artefact * down
    # A device that takes part at all fetches the artefact once; below one round, in expectation.
    downloads = min(1.0, load.rounds)
    loaded_w = Quantity.of("loaded", dearer(profile.loaded_w))
    radio_w = Quantity.of("radio", dearer(profile.radio_w))
    transfer_w = Quantity.of("idle", dearer(profile.idle_w)) + radio_w
    # Trial: rounds * (loaded W * compute + transfer W * transfer) + transfer W * artefact.
    energy_j = (loaded_w * compute_s + transfer_w * transfer_s) * load.rounds
    energy_j += transfer_w * fetching_s * downloads
    sent = message * load.rounds
    round_s = (compute_s + transfer_s + fetching_s).estimate()
    later = (compute_s + transfer_s).estimate()
    return Cost(
        inference_ms=inference_ms.estimate(),
        step_ms=step_ms.estimate(),
        round_s=Estimate(round_s.value, min(later.low, round_s.low), round_s.high),
        memory_mib=_training_memory(profile, load).estimate(),
        inference_memory_mib=_inference_memory(profile, load).estimate(),
        storage_mib=_storage(load).estimate(),
        energy_j=energy_j.estimate(),
        sent_bytes=sent.estimate(),
        received_bytes=(sent + artefact * downloads).estimate(),
    )


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
