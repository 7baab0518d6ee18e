"""The epsilon of a study: what its trials spent together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.epsilon import Rounds, epsilon, epsilon_of_all
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Infeasible,
    Learned,
    Proposal,
    Stopped,
)
from fieldtune.server.report.privacy import privacy_sentence
from fieldtune.server.results.privacy_spent import privacy_spent
from fieldtune.server.study.load import parse_study

TEXT = """
[study]
name = "s"
trials = 1
rounds = 12
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 20
devices = { "raspberry-pi-5" = 1.0 }
[limits]
coverage = 0.8
[space.server]
clients_per_round = 4
"""
DP = "dp_clip = 1.0\ndp_noise = 1.0\n"
MEMBERS = [
    Description(client=client, profile="raspberry-pi-5", train_samples=9, test_samples=4,
                input_shape=(8, 8, 1), classes=10, runtime="x")
    for client in range(20)
]  # fmt: skip


def test_all_trials_count_for_the_rounds_that_they_were_trained() -> None:
    study = parse_study(TEXT + DP, "s")
    fleet = FleetGroups(study, MEMBERS, {"raspberry-pi-5": load_profile("raspberry-pi-5")})
    proposal = Proposal(0, study.full_space.defaults())
    forecast = Forecast({}, tuple(range(16)), {})
    learned = Learned({}, 1, 1.0, {}, True, rounds=12)
    short = replace(learned, rounds=5)
    outcomes = [
        Completed(proposal, forecast, learned, {}, 0),
        Stopped(proposal, forecast, short, {}, 0, 5),
        Failed(proposal, "no client returned a result"),
        Failed(proposal, "not compiled", sent=False),
        Infeasible(proposal, forecast),
    ]
    spent = privacy_spent(study, outcomes, fleet)
    assert spent is not None
    whole = Rounds(4 / 16, 1.0, 12)
    assert spent.trials == 3
    assert spent.largest == epsilon(whole, 1e-5)
    # Of the failed one it is not known how far it got, nor how many took part.
    assert spent.study == epsilon_of_all([whole, replace(whole, count=5), whole], 1e-5)
    said = privacy_sentence(spent, simulated=False)
    assert f"one trial spent an epsilon of at most {spent.largest:.3g}, all 3 trials" in said
    assert "would have spent" in privacy_sentence(spent, simulated=True)


def test_a_study_without_noise_has_none() -> None:
    study = parse_study(TEXT, "s")
    fleet = FleetGroups(study, MEMBERS, {"raspberry-pi-5": load_profile("raspberry-pi-5")})
    assert privacy_spent(study, [], fleet) is None
    private = parse_study(TEXT + DP, "s")
    nothing = privacy_spent(private, [], fleet)
    assert nothing is not None
    assert (nothing.trials, nothing.largest, nothing.study) == (0, 0, pytest.approx(0))
