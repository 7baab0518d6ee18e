"""What a study may spend: each device type's bill, and when the budget is used up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES, PROTOCOL_FACTOR
from fieldtune.server.costs.budget import Account, Budget
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.costs.usage import UsageMeter, by_device
from fieldtune.server.outcomes.trial import Expense, Failed, Forecast, Infeasible, Proposal
from fieldtune.server.report.format import budget_used
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.study_options import StudySection

ONE = Estimate(1.0, 1.0, 1.0)
FIVE_WATTS = Estimate(5.0, 2.0, 7.0)


def expected(profile: str, power: Estimate | None = FIVE_WATTS) -> Expected:
    return Expected(profile, 8, ONE, ONE, ONE, power)


def bill(**expectations: Expected) -> UsageMeter:
    device: Any = type("Device", (), {"cost": type("Cost", (), {"training_s": Estimate(7, 7, 7)})})
    forecast = Forecast({each.profile: device for each in expectations.values()}, (), {})
    return UsageMeter({int(client[1:]): each for client, each in expectations.items()}, forecast)


def trained(**changes: Any) -> TrainReport:
    values: dict[str, Any] = {"trial": 0, "round": 0, "samples": 3, "steps": 9_000,
                              "wall_s": 2.0, "energy_j": 3.0}  # fmt: skip
    return TrainReport(**(values | changes))


def failed(number: int, **expense: Expense) -> Failed:
    return Failed(Proposal(number, Configuration({}, {}, {})), "no reason", expense=expense)


def test_each_device_type_is_charged_what_its_clients_report() -> None:
    made = bill(c0=expected("pi"), c1=expected("pi"), c2=expected("phone"))
    made.take({0: trained(), 2: trained(wall_s=1.0, energy_j=1.0)})
    made.take({1: EvaluateReport(trial=0, round=1, wall_s=0.5, energy_j=0.25)})
    total = made.total()
    assert list(total) == ["phone", "pi"]
    assert (total["pi"].device_s, total["pi"].energy_j) == (2.5, 3.25)
    assert total["pi"].sent_bytes == 2 * MESSAGE_BYTES.value


def test_a_report_counts_up_to_a_multiple_of_what_is_predicted() -> None:
    made = bill(c0=expected("pi"))
    made.take({0: trained(steps=200, wall_s=1e30, energy_j=1e308)})  # 200 calls of 1 ms
    made.take({0: TrainReport(trial=0, round=1, failure="sits_out")})
    total = made.total()["pi"]
    assert total.device_s == pytest.approx(10 * 0.2 + 1)
    assert total.energy_j == pytest.approx(3 * 10 * 7)
    assert total.sent_bytes == MESSAGE_BYTES.value


def test_weights_that_come_back_count_in_bytes() -> None:
    light, heavy = bill(c0=expected("pi")), bill(c0=expected("pi"))
    light.take({0: trained()})
    heavy.take({0: trained(weights=np.zeros(1000, np.float32))})
    more = heavy.total()["pi"].sent_bytes - light.total()["pi"].sent_bytes
    assert 4000 <= more <= 4500


def test_an_encoded_update_counts_with_its_own_bytes() -> None:
    made = bill(c0=expected("pi"))
    made.take({0: trained(weights=np.zeros(1000, np.float32), encoded=bytes(500))})
    expected_bytes = 500 * PROTOCOL_FACTOR.value + MESSAGE_BYTES.value
    assert made.total()["pi"].sent_bytes == expected_bytes


def test_personal_steps_count_in_what_an_evaluation_may_take() -> None:
    made = bill(c0=expected("pi"))
    made.take({0: EvaluateReport(trial=0, round=1, wall_s=1e9, samples=8, steps=500)})
    assert made.total()["pi"].device_s == pytest.approx(10 * (0.001 + 0.5) + 1)


def test_what_a_device_does_not_say_is_taken_from_its_profile() -> None:
    made = bill(c0=expected("pi"), c1=expected("phone", power=None))
    made.take({0: trained(wall_s=2.0, energy_j=None), 1: trained(energy_j=None)})
    made.take({0: TrainReport(trial=0, round=1, failure="error")})
    assert made.total()["pi"] == Expense(9.0, 45.0, 2 * MESSAGE_BYTES.value)
    assert made.total()["phone"].energy_j is None


def test_the_order_in_which_clients_answer_changes_no_bit() -> None:
    reports = {client: trained(wall_s=0.1 * 3**client) for client in range(9)}
    names = {f"c{client}": expected("pi") for client in range(9)}
    one, other = bill(**names), bill(**names)
    one.take(reports)
    other.take(dict(reversed(reports.items())))
    assert one.total() == other.total()


def test_a_study_ends_with_the_first_budget_that_is_used_up() -> None:
    study = StudySection(name="s", rounds=1, trials=10, device_hours=1.0, energy_j=50.0)
    outcomes = [failed(0, pi=Expense(1800, 10, 5)), failed(1, phone=Expense(900, 15, 5))]
    assert by_device(outcomes) == {"pi": Expense(1800, 10, 5), "phone": Expense(900, 15, 5)}
    shares = {account.name: account.share for account in Budget(study).accounts(4, outcomes)}
    assert shares == {"trials": 0.4, "device_hours": 0.75, "energy_j": 0.5}
    assert Budget(study).share(4, outcomes) == 0.75
    assert Budget(study).share(10, outcomes) == 1


def test_what_no_device_was_asked_for_costs_nothing() -> None:
    ruled_out = Infeasible(Proposal(0, Configuration({}, {}, {})), Forecast({}, (), {}))
    assert by_device([ruled_out]) == {}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", r"has no stopping criterion: set trials, or a budget \(device_hours, energy_j, "),
        ("device_hours = 0", "greater than 0"),
        ("energy_j = inf", "finite"),
    ],
)
def test_a_budget_that_makes_no_sense_is_a_sentence(line: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        parse_study(
            f"""
            [study]
            name = "s"
            rounds = 1
            {line}
            [task]
            data = "digits"
            model = "mlp"
            [fleet]
            clients = 1
            devices = {{ "raspberry-pi-5" = 1.0 }}
            [space]
            """,
            "s",
        )


@pytest.mark.parametrize(
    ("budget", "of", "sentence"),
    [
        ("trials", 40, "20/40"),
        ("device_hours", 20.0, "50 % of 20 device-hours"),
        ("energy_j", 1500.0, "50 % of 1.50 kJ"),
        ("sent_bytes", 2.0**25, "50 % of 32 MiB sent"),
    ],
)
def test_a_budget_is_said_in_a_unit_that_suits_it(budget: str, of: float, sentence: str) -> None:
    assert budget_used(Account(budget, of / 2, of)) == sentence
