"""A meter that predicts what the simulated device would have measured."""

from __future__ import annotations

from functools import lru_cache

from fieldtune.client.training.meter import Measurement
from fieldtune.client.training.runtime import Inference, Session
from fieldtune.profiles.costmodel.cost import call_ms, computing_w
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile


class ProfileMeter:
    """Predicts time and energy of the client's calls on a device from its profile.

    Args:
        profile: profile of the device type.
        time_factor: this device's time relative to its type's; 1.1 is 10 % slower.
    """

    def __init__(self, profile: DeviceProfile, time_factor: float) -> None:
        self._profile, self._time_factor = profile, time_factor

    def start(self) -> None:
        """Does nothing: time is predicted, not measured."""

    def mark(self) -> None:
        """Does nothing."""

    def stop(
        self, session: Session | Inference, *, train_steps: int = 0, samples: int = 0
    ) -> Measurement:
        """Predicted time and energy of the calls, marked as simulated."""
        signatures = _work(session.model)
        # A deployable variant has one signature, whatever its name.
        work = signatures.get("train" if train_steps else "evaluate") or next(
            iter(signatures.values())
        )
        calls = train_steps or -(-samples // session.micro_batch)
        call = call_ms(self._profile, work, lasting=bool(train_steps))
        busy_s = calls * self._time_factor * call.value / 1e3
        watts = computing_w(self._profile, "one")
        return Measurement(
            wall_s=busy_s,
            energy_j=None if watts is None else busy_s * watts.value,
            inference_ms=1e3 * busy_s / samples if samples and not train_steps else None,
            simulated=True,
        )


@lru_cache(maxsize=128)
def _work(model: bytes) -> dict[str, Work]:
    return read_work(model)
