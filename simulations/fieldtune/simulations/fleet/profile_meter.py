"""A meter that predicts what the simulated device would have measured."""

from __future__ import annotations

from functools import lru_cache

from fieldtune.client.training.measurement import Measurement
from fieldtune.client.training.runtime import Inference, Session
from fieldtune.profiles.costmodel.cost import computing_w, correction_work
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile


class DeviceCosts:
    """What calls of artefacts cost on a device type; each is predicted once.

    Args:
        profile: of the device type.
    """

    def __init__(self, profile: DeviceProfile) -> None:
        self._profile = profile
        watts = computing_w(profile, "one")
        self.watts = None if watts is None else watts.value
        """Power while it computes, if the profile tells it."""
        self.call_ms = lru_cache(maxsize=256)(self._call_ms)
        self.correction_ms = lru_cache(maxsize=256)(self._correction_ms)

    def _call_ms(self, model: bytes, train: bool) -> float:
        """Predicted milliseconds of one call of ``train``, or of ``evaluate``."""
        signatures = _work(model)
        # A deployable variant has one signature, whatever its name.
        work = signatures.get("train" if train else "evaluate") or next(iter(signatures.values()))
        return call_ms(self._profile, work, lasting=train).value

    def _correction_ms(self, weights: int, tensors: int) -> float:
        """Predicted milliseconds of adding to all weights between two steps."""
        return call_ms(self._profile, correction_work(4 * weights, tensors), lasting=True).value


class ProfileMeter:
    """Predicts time and energy of the client's calls on a device from its profile.

    Args:
        costs: of the device type.
        time_factor: this device's time relative to its type's; 1.1 is 10 % slower.
    """

    def __init__(self, costs: DeviceCosts, time_factor: float) -> None:
        self._costs, self._time_factor = costs, time_factor

    def start(self) -> None:
        """Does nothing: time is predicted, not measured."""

    def mark(self) -> None:
        """Does nothing."""

    def stop(
        self,
        session: Session | Inference,
        *,
        train_steps: int = 0,
        samples: int = 0,
        corrections: int = 0,
    ) -> Measurement:
        """Predicted time and energy of the calls, marked as simulated."""
        calls = train_steps or -(-samples // session.micro_batch)
        call_ms = self._costs.call_ms(session.model, bool(train_steps))
        busy_s = calls * self._time_factor * call_ms / 1e3
        if corrections and isinstance(session, Session):
            each_ms = self._costs.correction_ms(session.weight_count, session.tensor_count)
            busy_s += corrections * self._time_factor * each_ms / 1e3
        watts = self._costs.watts
        return Measurement(
            wall_s=busy_s,
            energy_j=None if watts is None else busy_s * watts,
            inference_ms=1e3 * busy_s / samples if samples and not train_steps else None,
            simulated=True,
        )


@lru_cache(maxsize=128)
def _work(model: bytes) -> dict[str, Work]:
    return read_work(model)
