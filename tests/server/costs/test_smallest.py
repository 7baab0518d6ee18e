"""Limits that no model keeps are refused before anything is compiled, and no others."""

from __future__ import annotations

import re

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.smallest import needed_by_any_model, no_model_fits
from fieldtune.server.study.load import parse_study

STUDY = """
[study]
name = "s"
trials = 1
rounds = 3
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 10
devices = { "raspberry-pi-5" = 1.0 }
[limits]
epsilon = 4
[space.model]
width = { choices = [8, 16] }
[space.server]
clients_per_round = 5
dp_clip = 1.0
dp_noise = { choices = [0.3, 3.0] }
"""
PROFILES = {"raspberry-pi-5": load_profile("raspberry-pi-5")}
MEMBERS = [
    Description(
        client=client, profile="raspberry-pi-5", train_samples=20, test_samples=4,
        input_shape=(8, 8, 1), classes=10, runtime="x",
    )
    for client in range(10)
]  # fmt: skip


def test_a_limit_on_epsilon_that_some_of_the_space_keeps_is_not_refused() -> None:
    assert needed_by_any_model(parse_study(STUDY, "s"), MEMBERS, PROFILES) == {}


def test_a_limit_on_epsilon_that_nothing_keeps_is_named_with_what_suffices() -> None:
    study = parse_study(STUDY.replace("epsilon = 4", "epsilon = 0.5"), "s")
    needed = needed_by_any_model(study, MEMBERS, PROFILES)
    said = no_model_fits(study, needed)
    assert re.search(r"at least limits\.epsilon = [1-3]\.\d+ \(it is 0\.5\) is needed", said)
