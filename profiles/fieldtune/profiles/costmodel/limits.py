"""Resource limits of a device, and the slack of a predicted cost."""

from dataclasses import dataclass, fields
from math import isfinite

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.profiles.device.profile import DeviceProfile


@dataclass(frozen=True)
class DeviceLimits:
    """Hard limits of one device type; ``None``: unlimited. Names end with units, as in a Cost.

    Raises:
        UsageError: a limit is not a finite number above 0.
    """

    memory_mib: float | None = None
    storage_mib: float | None = None
    round_s: float | None = None
    inference_ms: float | None = None
    energy_j: float | None = None

    def __post_init__(self) -> None:
        for name, cap in self.items():
            if not isfinite(cap) or cap <= 0:
                raise UsageError(f"limit {name} = {cap} must be a finite number above 0")

    def items(self) -> list[tuple[str, float]]:
        """The limits that are set, as (name, limit) pairs."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, cap) for name, cap in pairs if cap is not None]


def default_limits(profile: DeviceProfile) -> DeviceLimits:
    """The limits that a device itself imposes: its free memory and free storage."""
    return DeviceLimits(
        memory_mib=profile.memory_free_mib.value, storage_mib=profile.storage_free_mib.value
    )


def slack(cost: Cost, limits: DeviceLimits) -> dict[str, float]:
    """Relative distance of a predicted cost to each limit that is set.

    Raises:
        UsageError: a limited quantity cannot be predicted from the device's profile.

    Returns:
        limit name -> ``used / limit - 1``, from the estimate's value: at most 0 satisfies the
        limit, -0.25 leaves a quarter of it unused, 0.5 exceeds it by half.
    """
    gaps: dict[str, float] = {}
    for name, cap in limits.items():
        used: Estimate | None = getattr(cost, name)
        if used is None:
            raise UsageError(
                f"limit {name} = {cap:g} cannot be checked: the device's profile lacks values "
                "that the prediction needs; add them to the profile or remove the limit"
            )
        gaps[name] = used.value / cap - 1.0
    return gaps
