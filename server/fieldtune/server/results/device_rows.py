"""The devices of a real fleet: the error of each, how large its updates are, what failed."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.profiles.common.shares import wilson
from fieldtune.server.results.schema import DeviceSeen, Summary
from fieldtune.server.results.stored_files import DeviceError, VariantFile

HEADINGS = ("device", "error", "update norm", "failed", "refused")


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """A row a device, by name; none where clients are simulated.

    The error is that of the first file of the first point that was measured on devices.
    """
    errors = measured(summary)
    names = sorted(errors.keys() | summary.seen.keys() | summary.refused.keys())
    if summary.simulated:
        return []
    return [
        (name, _error(errors.get(name)), *_seen(summary.seen.get(name)),
         _counts(summary.refused.get(name, {})))
        for name in names
    ]  # fmt: skip


def lead(summary: Summary) -> str:
    """What the columns are."""
    trial = next((p.trial for p in summary.deployable if _errors_of(p.variants)), None)
    error = "" if trial is None else f"Error: of trial {trial} on the device's own test samples. "
    return (
        f"{error}Update norm: how large its updates are, as a multiple of the median. "
        "Failed: requests to it, by the kind of failure. Refused: its reports that could not be "
        "true, its updates that were scaled down (clipped) or left out (direction), and its losses "
        "that are far above the others' (loss)."
    )


def measured(summary: Summary) -> Mapping[str, DeviceError]:
    """Device -> its error with the first point that has files measured on devices."""
    found = (_errors_of(point.variants) for point in summary.deployable)
    return next(filter(None, found), {})


def _errors_of(variants: Mapping[str, VariantFile]) -> Mapping[str, DeviceError]:
    return next((each.device_errors for each in variants.values()), {})


def _error(error: DeviceError | None) -> str:
    if error is None:
        return "-"
    low, high = wilson(error.error, error.samples)
    return f"{100 * error.error:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def _seen(seen: DeviceSeen | None) -> tuple[str, str]:
    if seen is None:
        return "-", "-"
    norm = "-" if seen.update_norm is None else f"x {seen.update_norm:.2f}"
    return norm, _counts(seen.failures)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.items()) or "-"
