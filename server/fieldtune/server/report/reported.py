"""Predicted against reported: how far a fleet's own figures are from its profiles'."""

from __future__ import annotations

from dataclasses import dataclass

from fieldtune.server.report.format import counted, figure, number
from fieldtune.server.report.markup import Markup, tag
from fieldtune.server.results.schema import Reported, Summary

_QUANTITIES = {
    "training": ("training call", "training_ms"),
    "inference": ("forward pass", "inference_ms"),
    "memory": ("training memory", "memory_mib"),
    "power": ("power in training", "power_w"),
}


@dataclass(frozen=True)
class Row:
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


def rows(summary: Summary) -> list[Row]:
    """Every quantity, by device type; one that no client could measure says so."""
    found = []
    for device, said in summary.reported.items():
        by_name: dict[str, Reported] = {each.quantity: each for each in said}
        for quantity, (what, _) in _QUANTITIES.items():
            reported = by_name.get(quantity)
            found.append(
                Row(device, what, "", "not measured", "", "", "")
                if reported is None
                else _row(device, reported)
            )
    return found


def _row(device: str, said: Reported) -> Row:
    what, name = _QUANTITIES[said.quantity]
    basis = f"{counted(said.trials, 'trial')}, {counted(said.reports, 'report')}"
    if said.left_out:
        basis += f"; {said.left_out} throttled or swapping left out"
    if said.simulated:
        basis += " (simulated)"
    low, high = number(said.factor.low), number(said.factor.high)
    return Row(
        device=device,
        what=what,
        predicted=figure(name, said.predicted),
        reported=figure(name, said.reported),
        factor=f"x {number(said.factor.value)}",
        interval=f"{low} to {high}",
        basis=basis,
    )


def reported_table(summary: Summary) -> Markup:
    """The table of the page; empty where nothing was reported."""
    found = rows(summary)
    if not found:
        return Markup()
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings(summary)))
    body = []
    for row in found:
        device, *others, factor, basis = row.cells
        cells = [tag("th", device, scope="row"), *(tag("td", text) for text in others)]
        cells += [tag("td", factor, tag("small", row.interval)), tag("td", basis)]
        body.append(tag("tr", *cells))
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="costs")
    return tag(
        "div",
        tag("p", _lead(summary), class_="why"),
        tag("div", table, class_="scroll"),
        class_="panel",
    )


def _lead(summary: Summary) -> str:
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
