"""Time that a message takes over a device type's link."""

from __future__ import annotations

from dataclasses import dataclass

from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES, PROTOCOL_FACTOR, ROUND_TRIPS
from fieldtune.profiles.device.profile import DeviceProfile


@dataclass(frozen=True)
class Link:
    """A link, without intervals.

    The times add up to the transfer part of :attr:`~fieldtune.profiles.costmodel.cost.Cost.round_s`
    at its value.
    """

    download_s_per_byte: float = 0.0
    upload_s_per_byte: float = 0.0
    latency_s: float = 0.0
    """Of one round trip."""

    @classmethod
    def of(cls, profile: DeviceProfile) -> Link:
        """The link of a profile; transfers take no time where it lacks one of the figures."""
        down, up, latency = profile.download_mbit_s, profile.upload_mbit_s, profile.latency_ms
        if down is None or up is None or latency is None:
            return cls()
        return cls(8e-6 / down.value, 8e-6 / up.value, latency.value / 1e3)

    def download_s(self, weight_bytes: float, artefact_bytes: float = 0.0) -> float:
        """Seconds until a device has a request with weights, and with an artefact if it lacks it.

        All round trips of the exchange are counted here: polling comes before the request.
        """
        payload = PROTOCOL_FACTOR.value * (weight_bytes + artefact_bytes) + MESSAGE_BYTES.value
        return payload * self.download_s_per_byte + ROUND_TRIPS.value * self.latency_s

    def upload_s(self, weight_bytes: float) -> float:
        """Seconds until the coordinator has a report with weights."""
        payload = PROTOCOL_FACTOR.value * weight_bytes + MESSAGE_BYTES.value
        return payload * self.upload_s_per_byte
