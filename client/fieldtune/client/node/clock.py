"""How much a device's clock differs from its coordinator's, by the ``Date`` of an HTTP response."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from fieldtune.client.node.tls import trusting
from fieldtune.profiles.common.text import duration

_TOLERANCE_S = 5.0
_IGNORE_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME."""


def server_date(address: str, ca_certificate: str) -> str | None:
    """The HTTP ``Date`` of a server, whose certificate may be expired or not valid yet.

    None if it does not answer, or its certificate is not of this authority.
    """
    context = trusting(ca_certificate)
    context.verify_flags |= _IGNORE_TIME
    try:
        answer = httpx.get(f"https://{address}", verify=context, timeout=10.0)
    except httpx.HTTPError:
        return None
    date: str | None = answer.headers.get("date")
    return date


def clock_error(date: str | None) -> str:
    """A sentence if the clock differs too much from an HTTP ``Date``; empty if it does not."""
    behind_s = clock_behind_s(date)
    if behind_s is None or abs(behind_s) < _TOLERANCE_S:
        return ""
    side = "behind" if behind_s > 0 else "ahead of"
    return (
        f"its clock is {duration(abs(behind_s))} {side} the coordinator's: start NTP with "
        "'timedatectl set-ntp true', or set it"
    )


def clock_behind_s(date: str | None) -> float | None:
    """Seconds by which this device's clock is behind an HTTP ``Date``; None if it is missing."""
    try:
        return (
            None
            if date is None
            else (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
        )
    except (TypeError, ValueError):
        return None
