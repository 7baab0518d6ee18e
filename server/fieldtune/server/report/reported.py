"""Predicted against reported: how far a fleet's own figures are from its profiles'."""

from __future__ import annotations

from dataclasses import dataclass

from fieldtune.server.report.format import counted, figure, number
from fieldtune.server.results.schema import Reported, Summary

_QUANTITIES = {
    "training": ("training call", "training_ms"),
    "inference": ("forward pass", "inference_ms"),
    "memory": ("training memory", "memory_mib"),
    "power": ("power in training", "power_w"),
}


@dataclass(frozen=True)
class ReportedRow:
    """One quantity of one device type, as text."""

    device: str
    what: str
    predicted: str
    reported: str
    factor: str
    interval: str
    basis: str

    @property
    def cells(self) -> tuple[str, ...]:
        """All but the interval, which stands small beside the factor."""
        return (self.device, self.what, self.predicted, self.reported, self.factor, self.basis)


def headings(summary: Summary) -> tuple[str, ...]:
    """Of the columns; simulated figures are called so."""
    said = "simulated" if summary.simulated else "reported"
    return ("device", "what", "predicted", said, "correction", "from")


def rows(summary: Summary) -> list[ReportedRow]:
    """Every quantity, by device type; one that no client could measure says so."""
    found = []
    for device, said in summary.reported.items():
        by_name: dict[str, Reported] = {each.quantity: each for each in said}
        for quantity, (what, _) in _QUANTITIES.items():
            reported = by_name.get(quantity)
            found.append(
                ReportedRow(device, what, "", "not measured", "", "", "")
                if reported is None
                else _row(device, reported)
            )
    return found


def _row(device: str, said: Reported) -> ReportedRow:
    what, name = _QUANTITIES[said.quantity]
    basis = f"{counted(said.trials, 'trial')}, {counted(said.reports, 'report')}"
    if said.left_out:
        basis += f"; {said.left_out} throttled or swapping left out"
    if said.devices == 1:
        basis += "; one device only"
    if said.simulated:
        basis += " (simulated)"
    low, high = number(said.factor.low), number(said.factor.high)
    return ReportedRow(
        device=device,
        what=what,
        predicted=figure(name, said.predicted),
        reported=figure(name, said.reported),
        factor=f"x {number(said.factor.value)}",
        interval=f"{low} to {high}",
        basis=basis,
    )


def lead(summary: Summary) -> str:
    """What the table of the page is about."""
    if summary.simulated:
        return (
            "Simulated clients reported these; their figures are drawn around the profiles' own, "
            "so they say nothing of how far off a real device is. On real devices this table does."
        )
    return (
        "Predicted by the device's profile, and reported by its clients: medians over the trials. "
        "Every cost of the type is multiplied by the correction, which stays near 1 while reports "
        "are few. Reports of a device that was throttled or swapping are left out."
    )
