"""Which clients a round asks."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.client.contract.messages import EvaluateRequest, TrainReport, TrainRequest
from fieldtune.server.federation.evaluation import evaluate_requests
from fieldtune.server.federation.metrics import between_clients, effective_samples
from fieldtune.server.federation.oort import Oort
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.selection import Tiers
from fieldtune.server.federation.selectors import selector_of
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from support.timed_training import Scene

TIMES = {client: float(1 + (7 * client) % 40) for client in range(40)}


@dataclass
class Now:
    """A situation in which some clients are away or busy."""

    away: frozenset[int] = frozenset()
    busy: frozenset[int] = frozenset()
    times: dict[int, float] = field(default_factory=dict)
    now_s: float = 0.0

    def free(self, clients: Collection[int]) -> list[int]:
        return [client for client in clients if client not in self.busy]

    def there(self, clients: Collection[int]) -> list[int]:
        return [client for client in clients if client not in self.away]

    def someone_there_s(self, clients: Collection[int]) -> float:
        return 0.0

    def took_s(self, client: int) -> float | None:
        return self.times.get(client)


def plan(situation: Now | None = None, seed: int = 1, **server: Any) -> Plan:
    return Plan(
        trial=1, configuration=Configuration({}, {}, server), artefact="a" * 64,
        hyperparameters=(), initial_weights=np.zeros(2, np.float32), participants=range(40),
        classes=2, rounds=9, metric="accuracy", deadline_s={}, seed=seed,
        situation=situation or Now(), expected_s=TIMES,
    )  # fmt: skip


def selecting(made: Plan, selection: Any) -> Any:
    return selector_of(replace(made, server=ServerSection(selection=selection)))


CLIENTS = st.frozensets(st.integers(0, 39), max_size=40)


@settings(max_examples=40)
@given(
    away=CLIENTS, busy=CLIENTS, count=st.integers(1, 20), seed=st.integers(0, 9),
    selection=st.sampled_from(["uniform", "available", "tiers", "oort"]),
)  # fmt: skip
def test_whoever_can_be_asked_is_asked_once_and_nobody_else(
    away: frozenset[int], busy: frozenset[int], count: int, seed: int, selection: str
) -> None:
    made = plan(Now(away, busy), seed)
    selector = selecting(made, selection)
    for client in range(0, 40, 3):
        report = TrainReport(trial=1, round=0, samples=5, loss=0.1 * client)
        selector.learn(0, client, report)
    out = busy if selection == "uniform" else busy | away
    chosen = selector.choose(1, 0, count)
    assert chosen == sorted(set(chosen))
    assert not out & set(chosen)
    assert len(chosen) == min(count, 40 - len(out))
    assert selector.choose(1, 0, count) == chosen  # it follows from round and place
    again = selecting(made, selection)
    again.restore(selector.state())
    assert again.choose(2, 5, count) == selector.choose(2, 5, count)


def test_a_round_of_one_tier_has_clients_of_about_one_speed() -> None:
    tiers = set()
    for number in range(30):
        chosen = Tiers(plan(tiers=4)).choose(number, 0, 5)
        times = sorted(TIMES[client] for client in chosen)
        assert times[-1] - times[0] < 10
        tiers.add(int(times[0] - 1) // 10)
    assert tiers == {0, 1, 2, 3}


def test_the_time_that_a_client_took_counts_more_than_the_predicted_one() -> None:
    slow = Now(times=dict.fromkeys(range(10), 1000.0))
    tier_of_them = {tuple(Tiers(plan(slow, tiers=4)).choose(n, 0, 10)) for n in range(30)}
    assert tuple(range(10)) in tier_of_them


def test_oorts_utility_is_that_of_the_paper() -> None:
    """Lai et al. 2021, equation 1 and algorithm 1, with the mean loss for the root mean square."""
    now = Now(times={0: 4.0, 1: 8.0, 2: 16.0})
    oort = Oort(plan(now, speed_weight=2.0))
    for client, (samples, loss) in enumerate([(10, 2.0), (20, 1.5), (30, 1.0)]):
        oort.learn(4, client, TrainReport(trial=1, round=4, samples=samples, loss=loss))
    uncertain = math.sqrt(0.1 * math.log(10) / 5)
    clipped = np.percentile([20.0, 30.0, 30.0], 95)
    assert oort.utilities([0, 1, 2], 9).tolist() == pytest.approx(
        [20.0 + uncertain, clipped + uncertain, (clipped + uncertain) * (8.0 / 16.0) ** 2]
    )


def test_no_reported_loss_stops_oort() -> None:
    oort = Oort(plan())
    for client in range(12):
        loss = 1e308 if client < 6 else 1.0
        oort.learn(0, client, TrainReport(trial=1, round=0, samples=1000, loss=loss))
    assert len(oort.choose(1, 0, 10)) == 10
    assert np.isfinite(oort.utilities(range(12), 1)).all()


def test_oort_explores_new_clients_less_and_less_and_asks_for_those_of_high_loss() -> None:
    oort = Oort(plan())
    for client in range(20):
        loss = 9.0 if client in (3, 4, 5) else 0.1
        oort.learn(0, client, TrainReport(trial=1, round=0, samples=10, loss=loss))
    early, late = (
        [c for number in range(at, at + 40) for c in oort.choose(number, 0, 10)] for at in (1, 400)
    )
    assert sum(c >= 20 for c in early) > 1.5 * sum(c >= 20 for c in late) > 0
    exploited = [client for client in late if client < 20]
    assert sum(client in (3, 4, 5) for client in exploited) == 3 * 40


def test_oort_prefers_slower_clients_once_fast_ones_are_worth_less() -> None:
    oort = Oort(plan())
    for number in range(40):
        report = TrainReport(trial=1, round=number, samples=10, loss=1.0 if number < 20 else 0.5)
        oort.learn(number, number % 8, report)
    before = oort.state()["pace"]
    oort.choose(40, 0, 5)
    assert oort.state()["pace"] == before + 10


@pytest.mark.parametrize("selection", ["available", "tiers", "oort"])
def test_a_training_only_asks_whom_it_can_reach(selection: str) -> None:
    server = '[server]\nselection = "{}"\n'
    away = '[fleet.availability]\nkind = "probability"\navailable = 0.5\ncycle_s = 50'
    scene = Scene(tables=server.format(selection) + away, clients=12, rounds=8)
    waits = Scene(tables=server.format("uniform") + away, clients=12, rounds=8)
    reached, asked = scene.completed().learned.timing, waits.completed().learned.timing
    assert reached is not None
    assert asked is not None
    assert reached.time_s < asked.time_s
    assert reached.idle_s < asked.idle_s


def test_a_sample_of_clients_evaluates_anew_each_time() -> None:
    sampled = replace(plan(), server=ServerSection(evaluate_clients=6))
    first, second = (
        evaluate_requests(sampled, rounds, sampled.initial_weights) for rounds in (3, 4)
    )
    assert len(first) == len(second) == 6
    assert set(first) != set(second)
    assert set(first) == set(evaluate_requests(sampled, 3, sampled.initial_weights))
    assert all(isinstance(each, EvaluateRequest) for each in first.values())


def test_trials_are_compared_at_a_rung_on_the_same_clients() -> None:
    server = ServerSection(evaluate_clients=6)
    one = replace(plan(), server=server, rungs=(3,))
    other = replace(one, seed=one.seed + 1, participants=one.participants[1:])
    asked, others = ({*evaluate_requests(each, 3, each.initial_weights)} for each in (one, other))
    assert len(asked) == len(others) == 6
    assert asked - {one.participants[0]} <= others
    anew = {*evaluate_requests(replace(one, study_seed=1), 3, one.initial_weights)}
    assert anew != asked
    later = [{*evaluate_requests(each, 4, each.initial_weights)} for each in (one, other)]
    assert later[0] != later[1]


def test_the_interval_widens_with_the_clients_that_do_not_evaluate() -> None:
    rng = np.random.default_rng(1)
    errors = np.clip(rng.normal(0.2, 0.1, 400), 0, 1)
    few, many = (
        effective_samples(
            "error", 0.2, 50 * count,
            {"error": 0.2, **between_clients(errors[:count].tolist(), [50.0] * count)},
        )
        for count in (20, 400)
    )  # fmt: skip
    assert 5 < many / few < 60


def test_only_the_sample_is_asked_at_the_end() -> None:
    scene = Scene(tables="[server]\nevaluate_clients = 4")
    scene.completed()
    asked = [client for client, each in scene.asked if not isinstance(each, TrainRequest)]
    assert len(asked) == 4
