"""What a report says of differential privacy."""

from __future__ import annotations

from fieldtune.server.results.schema import PrivacySpent


def privacy_sentence(spent: PrivacySpent, simulated: bool) -> str:
    """What was spent, and what that does not cover."""
    trials = "1 trial" if spent.trials == 1 else f"all {spent.trials} trials"
    where = "would have spent on devices like these" if simulated else "spent"
    return (
        f"Differential privacy: one trial {where} an epsilon of at most {spent.largest:.3g}, "
        f"{trials} together at most {spent.study:.3g} (delta {spent.delta:g}; for a device with "
        "all its data). That covers trained weights, not the errors that devices report, nor what "
        "is chosen by them."
    )
