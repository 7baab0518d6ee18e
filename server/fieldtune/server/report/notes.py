"""What the figures of a report mean, in words that fit the study."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.server.report.format import listed
from fieldtune.server.report.view import objectives
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED


def notes(summary: Summary) -> dict[str, str]:
    """Terms and what they mean, only of those that occur."""
    goals = objectives(summary)
    samples = sorted({point.test_samples for point in summary.front})
    share = [goal.label for goal in goals if goal.unit == "share"]
    costs = [goal for goal in goals if not goal.learned and summary.front]
    means = [cost.label for cost in costs if not cost.worst_of_fleet]
    worst = [cost.label for cost in costs if cost.worst_of_fleet]
    entries: dict[str, str] = {}
    if summary.simulated:
        entries["Predicted, not measured"] = (
            "This study was simulated: models were really trained and tested, but every cost "
            "(time, memory, storage, energy, bytes) is predicted from the device's profile. "
            "Measure the exported model on the device before you rely on it."
        )
    else:
        entries["Predicted and measured"] = (
            "This study ran on devices: what was learned comes from them. Costs are predicted from "
            "the devices' profiles, so that configurations can be ruled out before they are sent, "
            "and corrected by what the devices reported."
        )
    if share and samples:
        count = f"{samples[0]}" if len(samples) == 1 else f"{samples[0]} to {samples[-1]}"
        entries[f"Interval of {listed([title.lower() for title in share])}"] = (
            f"95 %, for clients like these. Of fewer than {FEWEST_PREDICTED} trials it is the "
            f"Wilson interval over {count} test samples, pooled over all clients that took part; "
            "they count as fewer where clients differ by more than chance. Of more trials it is "
            "that of the model of all of them, which has this in it. Two points whose intervals "
            "overlap a lot may differ by chance."
        )
    if summary.front and any(goal.learned and goal.unit != "share" for goal in goals):
        entries["No interval"] = "The loss and a metric of one's own may come without an interval."
    if costs:
        entries["Interval of a cost"] = (
            "From the intervals of the profile's own figures: the cheapest and the dearest device "
            "that would still match the profile (about 90 %), narrower where devices reported "
            "their own. All points share that "
            "uncertainty: which of two is cheaper is more certain than what either costs."
        )
    if worst:
        entries[f"{listed(worst)} of the fleet"] = (
            "That of the device type that is worst off, among those that can take part."
        )
    if means:
        entries[f"{listed(means)} of the fleet"] = (
            "The mean over the clients that can take part, of a whole trial on one device."
        )
    if summary.recommended:
        entries["On this device"] = (
            "Files and cards show each cost as that device type sees it, and what was learned as "
            "the whole fleet sees it; so they differ from the table of the front."
        )
    if summary.refused:
        entries["Reports refused"] = (
            "Reports that cannot be true, such as of more samples than the device has described, "
            "were left out, and updates far larger than the others scaled down. Of "
            + "; of ".join(_refused(name, by) for name, by in summary.refused.items())
            + "."
        )
    if summary.changes:
        entries["Changed on the way"] = ". ".join(map(str, summary.changes)) + (
            ". Trials from before are judged by the limits as they are now."
        )
    entries["Limits"] = (
        "Hard: a configuration over a limit on too much of the fleet is not trained. What is "
        "used of a limit is judged on the predicted value, not on the ends of its interval."
    )
    entries["Defaults"] = (
        "The values that the study file itself stands for, trained like any other trial."
        if summary.defaults
        else "The values that the study file itself stands for; they were not trained here, or fit "
        "no device, so nothing is compared to them."
    )
    return entries


def _refused(device: str, reasons: Mapping[str, int]) -> str:
    return f"{device}: " + ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
