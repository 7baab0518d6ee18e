"""``[limits]``: what a configuration may need at most on a device."""

from __future__ import annotations

from pydantic import Field

from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.study.section import Section


class Caps(Section):
    """Upper bounds on what a configuration may need on a device."""

    memory_mib: float | None = Field(default=None, gt=0)
    storage_mib: float | None = Field(default=None, gt=0)
    round_s: float | None = Field(default=None, gt=0)
    inference_ms: float | None = Field(default=None, gt=0)
    energy_j: float | None = Field(default=None, gt=0)


class LimitsSection(Caps):
    """``[limits]``: caps for every device, and stricter ones per device type."""

    coverage: float = Field(default=1.0, gt=0, le=1)
    """Share of the fleet that must be able to take part."""
    epsilon: float | None = Field(default=None, gt=0)
    """The most differential privacy that a trial may spend."""
    time_h: float | None = Field(default=None, gt=0)
    """Hours that a training may take: it ends then with the model that it has come to."""
    devices: dict[str, Caps] = Field(default_factory=dict)

    def for_device(self, profile: str, default: DeviceLimits) -> DeviceLimits:
        """A device type's caps: its own, else the general ones, else the profile's."""
        own = self.devices.get(profile, Caps())

        def cap(name: str) -> float | None:
            stated: tuple[float | None, ...] = tuple(
                getattr(caps, name) for caps in (own, self, default)
            )
            return next((value for value in stated if value is not None), None)

        return DeviceLimits(**{name: cap(name) for name in Caps.model_fields})
