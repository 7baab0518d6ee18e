"""What a device must not be asked for, and how far a cost is from it."""

from dataclasses import dataclass, fields
from math import isfinite

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.cost import Cost, Estimate
from fieldtune.profiles.device.profile import DeviceProfile


@dataclass(frozen=True)
class DeviceLimits:
    """Hard caps of one device type; ``None`` is no cap. Units end the names as in a Cost.

    Raises:
        UsageError: a cap that is not a finite number above 0.
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
        """The limits that are set: name and cap."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, cap) for name, cap in pairs if cap is not None]


def default_limits(profile: DeviceProfile) -> DeviceLimits:
    """Limit a device to its own free memory and free storage, and to nothing else."""
    return DeviceLimits(
        memory_mib=profile.memory_free_mib.value, storage_mib=profile.storage_free_mib.value
    )


def slack(cost: Cost, limits: DeviceLimits) -> dict[str, float]:
    """Say how a predicted cost stands to each limit that is set.

    Raises:
        UsageError: a limit is set on what the device's profile does not tell.

    Returns:
        limit name -> ``used / cap - 1``, judged on the estimate's value: at most 0 fits, -0.25
        leaves a quarter of the cap, 0.5 is half as much again as allowed.
    """
    gaps: dict[str, float] = {}
    for name, cap in limits.items():
        used: Estimate | None = getattr(cost, name)
        if used is None:
            raise UsageError(
                f"limit {name} = {cap:g} cannot be judged: the device's profile does not tell "
                "what it needs; add that to the profile or drop the limit"
            )
        gaps[name] = used.value / cap - 1.0
    return gaps
