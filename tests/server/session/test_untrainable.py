"""What is said where no trial could be trained."""

from __future__ import annotations

import pytest

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.outcomes.trial import Expense, Failed, Proposal
from fieldtune.server.session.untrainable import InVain, check_learned
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration

STUDY = """
[study]
name = "in-vain"
rounds = 2
objectives = ["error"]
{budget}
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 3
devices = {{ "raspberry-pi-5" = 1.0 }}
[fleet.faults]
lost_upload = 0.9
[limits]
time_h = 1
[space.client]
learning_rate = 0.1
[space.server]
clients_per_round = 3
deadline_s = {{ low = 1, high = 2 }}
"""


def study(budget: str = "trials = 100") -> StudyConfig:
    return parse_study(STUDY.format(budget=budget), "x")


def failed(*, device_s: float = 0.0, **failures: int) -> Failed:
    spent = {"raspberry-pi-5": Expense(device_s, 0.0, 0.0)}
    proposal = Proposal(1, Configuration({}, {}, {}))
    return Failed(proposal, "no client returned a result", failures, expense=spent)


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({"late": 3}, "; change space.server.deadline_s or limits.time_h"),
        ({}, ""),  # of a model that cannot be compiled, or an objective that is not finite
        ({"lost_upload": 3, "late": 1}, "; change fleet.faults.lost_upload"),
        ({"dropout": 3}, ""),  # which is 0: the study has changed
        ({"deadline": 3}, "; change limits.round_s"),
        ({"error": 3}, ""),
    ],
)
def test_the_settings_that_may_be_the_reason_are_named(failures: dict[str, int], said: str) -> None:
    with pytest.raises(FleetError) as raised:
        check_learned(study(), [failed(), failed(**failures)])
    assert str(raised.value) == (
        f"None of 2 trials could be trained; the last one: no client returned a result{said}"
    )


def test_only_simulated_studies_that_use_no_budget_are_ended() -> None:
    in_vain = InVain(study("device_hours = 1"), [])
    for _ in range(49):
        in_vain.note(failed())
    in_vain.note(failed(device_s=1.0))
    for _ in range(49):
        in_vain.note(failed())
    with pytest.raises(FleetError, match=r"^50 trials in a row failed"):
        in_vain.note(failed())
    device = Description(
        client=0, name="kitchen", profile="raspberry-pi-5", train_samples=1, test_samples=1,
        input_shape=(8, 8, 1), classes=10, runtime="x",
    )  # fmt: skip
    for endless in (InVain(study(), []), InVain(study("device_hours = 1"), [device])):
        for _ in range(60):
            endless.note(failed())
