"""``[fleet]``: how many clients of which device types, when they are there, and what goes wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldtune.server.study.section import Section

_Zone = Annotated[float, Field(ge=-12, le=14)]
_Share = Annotated[float, Field(ge=0, le=1)]

_USED_BY = {
    "available": ("probability",),
    "cycle_s": ("probability",),
    "from_h": ("day_night",),
    "until_h": ("day_night",),
    "zones_h": ("day_night", "battery"),
    "begins_h": ("day_night", "battery"),
    "charges_h": ("battery",),
    "lasts_h": ("battery",),
    "lowest": ("battery",),
    "file": ("trace",),
}


class AvailabilitySection(Section):
    """``[fleet.availability]``: when a simulated client can be reached.

    A client that goes away continues to work on its request, and answers when it is back.
    """

    kind: Literal["always", "probability", "day_night", "battery", "trace"] = "always"
    available: float = Field(default=0.7, ge=0.001, le=1)
    """``probability``: share of the time in which a client is there."""
    cycle_s: float = Field(default=600.0, ge=0.001)
    """``probability``: mean seconds from one absence to the next."""
    from_h: float = Field(default=22.0, ge=0, lt=24)
    """``day_night``: local hour from which clients are there."""
    until_h: float = Field(default=7.0, ge=0, lt=24)
    """``day_night``: local hour until which clients are there."""
    zones_h: tuple[_Zone, ...] = Field(default=(0.0,), min_length=1)
    """``day_night``, ``battery``: hours from UTC; each client is in one of them."""
    begins_h: float = Field(default=0.0, ge=0, lt=24)
    """``day_night``, ``battery``: UTC hour at which a trial begins."""
    charges_h: float = Field(default=8.0, ge=0.001, lt=24)
    """``battery``: hours a day on the charger, from about 22 h; it is full afterwards."""
    lasts_h: float = Field(default=12.0, gt=0)
    """``battery``: hours from full to empty."""
    lowest: float = Field(default=0.5, ge=0, le=1)
    """``battery``: charge below which a client that is not on the charger does not take part."""
    file: str | None = None
    """``trace``: a ``.csv`` or FedScale's ``.json``, beside the study file."""

    @model_validator(mode="after")
    def _used(self) -> AvailabilitySection:
        for key, kinds in _USED_BY.items():
            if key in self.model_fields_set and self.kind not in kinds:
                raise ValueError(
                    f"has {key}, which the kind {self.kind!r} does not use: leave {key} out, or "
                    f"choose the kind {' or '.join(map(repr, kinds))}"
                )
        if self.kind == "trace" and self.file is None:
            raise ValueError("has the kind 'trace' without a file: set file = 'trace.csv'")
        if self.kind == "day_night" and (self.until_h - self.from_h) % 24 < 0.001:
            raise ValueError(
                f"is there from {self.from_h:g} h until {self.until_h:g} h, which is either never "
                "or always: let the hours differ, or choose the kind 'always'"
            )
        return self


class FaultsSection(Section):
    """``[fleet.faults]``: probabilities that a simulated client's training goes wrong."""

    dropout: _Share = 0.0
    """The device stops in the middle of its work, which is lost."""
    lost_upload: _Share = 0.0
    """The work is done, but its result does not arrive."""
    out_of_memory: _Share = 0.0
    """The device's memory does not suffice; it says so at once."""
    throttling: _Share = 0.0
    """The device is hot and works more slowly."""
    throttling_factor: float = Field(default=3.0, ge=1, le=100)
    """By how much."""
    noticed_s: float = Field(default=180.0, ge=0)
    """Seconds until the coordinator gives up on a device that dropped out, or on a lost result."""

    @model_validator(mode="after")
    def _at_most_one(self) -> FaultsSection:
        total = self.dropout + self.lost_upload + self.out_of_memory
        if total > 1:
            raise ValueError(
                f"has dropout, lost_upload and out_of_memory that sum to {total:g}: a training "
                "goes wrong in one of these ways at most, so they must sum to 1 or less"
            )
        return self


class FleetSection(Section):
    """``[fleet]``: how many clients, and the share of each device profile."""

    clients: int = Field(ge=1, le=1_000_000)
    devices: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    availability: AvailabilitySection | None = None
    """None: always there."""
    faults: FaultsSection | None = None
    """None: nothing goes wrong."""

    @model_validator(mode="after")
    def _shares(self) -> FleetSection:
        total = sum(self.devices.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"has shares that sum to {total:g}: they must sum to 1")
        return self
