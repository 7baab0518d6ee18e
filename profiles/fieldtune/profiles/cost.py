"""What a configuration costs on a device type, in the device's own currency.

Time of computing comes from :mod:`fieldtune.profiles.roofline`; memory, storage, bytes and energy
are sums whose terms stand in the docstring of each method of :class:`_Case`. As there, each formula
is evaluated at the cheapest end of every interval, at the values, and at the dearest end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fieldtune.profiles.device import DeviceProfile
from fieldtune.profiles.roofline import (
    End,
    Estimate,
    Roofline,
    Span,
    Threads,
    call_ms,
    cheaper,
    dearer,
)
from fieldtune.profiles.work import Work

__all__ = ["Cost", "Estimate", "Workload", "call_ms", "predict"]

# Resident memory of the process that trains, MiB: Python, numpy, flwr and a TFLite runtime in one
# process (imports of flwr 65 MB on an aarch64 virtual machine, runtime and training about 35 MB
# more; a whole one-process node 100 MB on x86-64). Stock flwr nodes, one process a part, take
# about 284 MB: for those, lower the profile's free memory.
PROCESS_MIB: Span = (85.0, 105.0, 140.0)
# The same for a process that only runs the deployed model: Python, numpy and a runtime took 38 MB
# (tflite-runtime) and 47 MB (ai-edge-litert) on an aarch64 virtual machine.
INFERENCE_PROCESS_MIB: Span = (34.0, 45.0, 60.0)
# Copies of all the weights that live at the peak of a round: the message as received, the arrays
# unpacked from it, the runtime's variables, its gradient accumulators, the optimizer's momentum,
# the reply; with Adam and a packed reply two more, once the message is freed fewer.
WEIGHT_COPIES: Span = (3.0, 6.0, 8.0)
ARTEFACT_COPIES: Span = (1.0, 2.0, 3.0)  # the file mapped; the message that brought it, unpacked
ARENA_FACTOR: Span = (1.0, 1.0, 1.5)  # XNNPACK's workspaces come beside the planned arena
MODEL_COPIES: Span = (1.0, 2.0, 2.5)  # XNNPACK packs the weights of a deployed model anew
PROTOCOL_FACTOR: Span = (1.0, 1.03, 1.10)  # TLS, HTTP/2 and TCP/IP headers on the payload
MESSAGE_BYTES: Span = (1_000.0, 4_000.0, 16_000.0)  # metrics and metadata of a message
ROUND_TRIPS: Span = (2.0, 4.0, 10.0)  # asking for the message, fetching it, pushing the reply
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


@dataclass(frozen=True)
class _Case:
    """A workload on a device whose figures are all at one end of their intervals."""

    load: Workload
    end: End
    roofline: Roofline
    down_bytes_s: float
    up_bytes_s: float
    latency_s: float
    loaded_w: float
    transfer_w: float

    @classmethod
    def of(cls, profile: DeviceProfile, load: Workload, end: End, threads: Threads) -> "_Case":
        return cls(
            load=load,
            end=end,
            roofline=Roofline.of(profile, end, threads),
            down_bytes_s=cheaper(profile.download_mbit_s, end) * 1e6 / 8.0,
            up_bytes_s=cheaper(profile.upload_mbit_s, end) * 1e6 / 8.0,
            latency_s=dearer(profile.latency_ms, end) / 1e3,
            loaded_w=dearer(profile.loaded_w, end),
            transfer_w=dearer(profile.idle_w, end) + dearer(profile.radio_w, end),
        )

    def inference_ms(self) -> float:
        """One call of the deployed model."""
        return self.roofline.call_ms(self.load.infer)

    def step_ms(self) -> float:
        """One call of the train signature."""
        return self.roofline.call_ms(self.load.step)

    def compute_s(self) -> float:
        """Sum of a round: steps * step + evaluations * evaluate."""
        evaluate_ms = self.roofline.call_ms(self.load.evaluate)
        steps_ms = self.load.steps_per_round * self.step_ms()
        return (steps_ms + self.load.evaluations_per_round * evaluate_ms) / 1e3

    def message_bytes(self) -> float:
        """One direction of a round: weights * protocol + message."""
        return self.load.weight_bytes * PROTOCOL_FACTOR[self.end] + MESSAGE_BYTES[self.end]

    def artefact_wire_bytes(self) -> float:
        """One download: artefact * protocol."""
        return self.load.artefact_bytes * PROTOCOL_FACTOR[self.end]

    def transfer_s(self) -> float:
        """Both directions of a round: bytes / down + bytes / up + round trips * latency."""
        size = self.message_bytes()
        waiting = ROUND_TRIPS[self.end] * self.latency_s
        return size / self.down_bytes_s + size / self.up_bytes_s + waiting

    def round_s(self) -> float:
        """First round: compute + transfer + artefact / down; the last not at the cheapest end."""
        first = self.artefact_wire_bytes() / self.down_bytes_s if self.end else 0.0
        return self.compute_s() + self.transfer_s() + first

    def memory_mib(self) -> float:
        """Peak: process + (artefact + arena + weights + data, each with its copies) / 2^20."""
        size = (
            self.load.artefact_bytes * ARTEFACT_COPIES[self.end]
            + self.load.train_arena_bytes * ARENA_FACTOR[self.end]
            + self.load.weight_bytes * WEIGHT_COPIES[self.end]
            + self.load.data_bytes
        )
        return PROCESS_MIB[self.end] + size / MIB

    def inference_memory_mib(self) -> float:
        """Peak: process + (model * copies + arena) / 2^20."""
        size = (
            self.load.model_bytes * MODEL_COPIES[self.end]
            + self.load.infer_arena_bytes * ARENA_FACTOR[self.end]
        )
        return INFERENCE_PROCESS_MIB[self.end] + size / MIB

    def storage_mib(self) -> float:
        """Files: (artefact + model + weights + data) / 2^20; dearest, old and new weights."""
        weights = self.load.weight_bytes * (2 if self.end == 2 else 1)
        size = self.load.artefact_bytes + self.load.model_bytes + weights + self.load.data_bytes
        return size / MIB

    def energy_j(self) -> float:
        """Trial: rounds * (loaded W * compute + transfer W * transfer) + transfer W * artefact."""
        a_round = self.loaded_w * self.compute_s() + self.transfer_w * self.transfer_s()
        fetching_s = self._downloads() * self.artefact_wire_bytes() / self.down_bytes_s
        return self.load.rounds * a_round + self.transfer_w * fetching_s

    def sent_bytes(self) -> float:
        """Trial: rounds * message."""
        return self.load.rounds * self.message_bytes()

    def received_bytes(self) -> float:
        """Trial: rounds * message + artefact * protocol, once."""
        return self.sent_bytes() + self._downloads() * self.artefact_wire_bytes()

    def _downloads(self) -> float:
        # Once, by a device that takes part at all; below one round, with that probability.
        return min(1.0, self.load.rounds)


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
        estimates with ``low <= value <= high`` whose width comes from the profile's intervals and
        from those of the model's constants.
    """
    low = _Case.of(profile, workload, 0, threads)
    value = _Case.of(profile, workload, 1, threads)
    high = _Case.of(profile, workload, 2, threads)

    def estimate(formula: Callable[[_Case], float]) -> Estimate:
        return Estimate(formula(value), formula(low), formula(high))

    return Cost(
        inference_ms=estimate(_Case.inference_ms),
        step_ms=estimate(_Case.step_ms),
        round_s=estimate(_Case.round_s),
        memory_mib=estimate(_Case.memory_mib),
        inference_memory_mib=estimate(_Case.inference_memory_mib),
        storage_mib=estimate(_Case.storage_mib),
        energy_j=estimate(_Case.energy_j),
        sent_bytes=estimate(_Case.sent_bytes),
        received_bytes=estimate(_Case.received_bytes),
    )
