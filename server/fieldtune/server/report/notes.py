"""Explanations of the figures of a report: only of those that occur in it."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.server.report.format import listed
from fieldtune.server.report.privacy import privacy_sentence
from fieldtune.server.report.view import objectives
from fieldtune.server.results.schema import Summary, personal_steps
from fieldtune.server.results.unlike import unlike_devices
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED


def notes(summary: Summary) -> dict[str, str]:
    """Terms and what they mean, only of those that occur."""
    goals = objectives(summary)
    samples = sorted({point.test_samples for point in summary.front})
    share = [goal.phrase for goal in goals if goal.unit == "share"]
    costs = [goal for goal in goals if not goal.learned and goal.of_device and summary.front]
    means = [cost.label for cost in costs if not cost.worst_of_fleet]
    worst = [cost.label for cost in costs if cost.worst_of_fleet]
    entries: dict[str, str] = {}
    if summary.simulated:
        entries["Predicted, not measured"] = (
            "This study was simulated: models were trained and tested on simulated clients, and "
            "every cost (time, memory, storage, energy, bytes) is predicted from a profile. "
            "Measure the exported model on the device before you rely on it."
        )
    else:
        entries["Predicted and measured"] = (
            "This study ran on devices, which measured what was learned. Costs are predicted "
            "from their profiles, so that configurations can be ruled out before they are "
            "sent, and calibrated with what the devices reported."
        )
    if share and samples:
        count = f"{samples[0]}" if len(samples) == 1 else f"{samples[0]} to {samples[-1]}"
        entries[f"Interval of {listed(share)}"] = (
            f"95 %, for clients like these. With fewer than {FEWEST_PREDICTED} trials it is the "
            f"Wilson interval over {count} test samples of all clients that took part; they "
            "count as fewer where clients differ by more than chance. With more trials the value "
            "is predicted by a model of all trials, and its interval includes the former. Two "
            "points whose intervals overlap widely may differ by chance."
        )
    if personal := personal_steps(summary.deployable):
        entries["Personal steps"] = personal
    if summary.front and any(goal.learned and goal.unit != "share" for goal in goals):
        entries["No interval"] = "With few trials, the loss and your own metric have no interval."
    if costs:
        entries["Interval of a cost"] = (
            "90 %, from the intervals of the profile's figures; narrower where devices reported "
            "their own. Points share most of this uncertainty, so which of two is cheaper is more "
            "certain than what either costs. Points are compared by the interval of their ratio."
        )
    if worst:
        entries[f"{listed(worst)} of the fleet"] = (
            "The highest of the device types that can take part."
        )
    if means:
        entries[f"{listed(means)} of the fleet"] = (
            "The mean over the clients that can take part: what one device needs for a whole trial."
        )
    if summary.recommended:
        entries["On this device"] = (
            "Recommendations show the costs of that device type and the learned measures of the "
            "whole fleet; the table of the front shows the costs of the fleet."
        )
    if summary.decision is not None and summary.recommended:
        rule = summary.decision
        entries["Recommended"] = (
            "Of the points that are no worse than the defaults on what is learned, with a "
            f"probability of at least {rule.confidence:g}, the one with the largest weighted joint "
            f"gain. Being worse by up to {100 * rule.tolerance:g} % is tolerated. A difference "
            "smaller than its noise counts as none, and what is promised is what is left of a "
            "gain after its noise."
        )
    if summary.refused:
        entries["Reports refused"] = (
            "Reports that cannot be true, such as of more samples than the device has described, "
            "were left out, and so were updates that point against the others' round after "
            "round (direction); updates far larger than the others were scaled down (clipped). Of "
            + "; of ".join(_refused(name, by) for name, by in summary.refused.items())
            + "."
        )
    if unlike := unlike_devices(summary):
        entries["Devices unlike the others"] = ". ".join(unlike) + "."
    if summary.privacy:
        entries["Differential privacy"] = privacy_sentence(summary.privacy, summary.simulated)
    if summary.changes:
        entries["Study changes"] = ". ".join(map(str, summary.changes)) + (
            ". Earlier trials are judged by the current limits."
        )
    entries["Limits"] = (
        "A configuration that exceeds a limit on too many clients is not trained. Limits are "
        "compared with the predicted value, not with the ends of its interval."
    )
    entries["Defaults"] = (
        "The default value of every hyperparameter, trained as the first trial"
        f"{', and repeated' if summary.defaults.runs > 1 else ''}."
        if summary.defaults
        else "The default value of every hyperparameter; they were not trained here, or fit no "
        "device, so nothing is compared with them."
    )
    return entries


def _refused(device: str, reasons: Mapping[str, int]) -> str:
    return f"{device}: " + ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
