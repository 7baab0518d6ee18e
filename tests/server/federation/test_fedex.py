"""FedEx: the update by hand, and the training as a conversation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.profiles.common.errors import StudyError
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fedex import ClientResult, Theta, fedex
from fieldtune.server.federation.fedex_candidates import Candidate
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.outcomes.trial import Choice, Forecast, Learned
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Fedex

AGGRESSIVE = Fedex()
CLIENTS = 10


def test_the_update_by_hand() -> None:
    theta = Theta(2, AGGRESSIVE, discount=0.0)
    step = math.sqrt(2 * math.log(2))
    # Nothing to compare with yet, so the gradient is (0.5 x 0.2 / 0.5, 0.5 x 0.8 / 0.5).
    theta.learn([ClientResult(0, 0.5, 0.2, 0.5), ClientResult(1, 0.5, 0.8, 0.5)])
    apart = step * (0.8 - 0.2) / 0.8
    first = 1 / (1 + math.exp(-apart))
    assert theta.probabilities == pytest.approx((first, 1 - first))
    assert first == pytest.approx(0.7074, abs=1e-4)
    # The round before had a mean error of 0.5: 0.4 is better, and alone it makes a whole step.
    theta.learn([ClientResult(0, first, 0.4, 1.0)])
    assert theta.probabilities[0] == pytest.approx(1 / (1 + math.exp(-apart - step)))


@pytest.mark.parametrize(("discount", "baseline"), [(0.0, 0.1), (1.0, 0.3), (0.5, 0.7 / 3)])
def test_the_baseline_is_the_discounted_mean_of_the_rounds_before(
    discount: float, baseline: float
) -> None:
    theta = Theta(2, Fedex(schedule="constant", step_size=1.0), discount)
    for error in (0.5, 0.1):
        theta.learn([ClientResult(0, 0.5, error, 0.5), ClientResult(1, 0.5, error, 0.5)])
    assert theta.probabilities == pytest.approx((0.5, 0.5))
    theta.learn([ClientResult(0, 0.5, 0.6, 1.0)])
    odds = math.exp(-(0.6 - baseline) / 0.5)
    assert theta.probabilities[0] == pytest.approx(odds / (1 + odds))


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ("constant", (0.2, 0.4)),
        ("aggressive", (1.0, 1.0)),
        ("adaptive", (1.0, 0.4 / math.sqrt(0.2**2 + 0.4**2))),
        ("decaying", (0.2, 0.4 / math.sqrt(2))),
    ],
)
def test_each_schedule_has_its_own_step(schedule: Any, steps: tuple[float, float]) -> None:
    theta = Theta(2, Fedex(schedule=schedule, step_size=1.0), discount=0.0)
    apart = 0.0
    for gradient, step in zip((0.2, 0.4), steps, strict=True):
        baseline = theta._baseline()
        theta.learn([ClientResult(0, 1.0, gradient + baseline, 1.0)])
        apart += step
        assert theta.probabilities[0] == pytest.approx(1 / (1 + math.exp(apart)))


TRIED = st.builds(
    ClientResult, st.integers(0, 3), st.floats(1e-6, 1), st.floats(0, 1e6), st.floats(0.01, 1)
)


@given(st.lists(st.lists(TRIED, max_size=3), max_size=8), st.floats(0, 1))
def test_whatever_is_learned_it_stays_a_distribution_that_can_be_drawn_from(
    rounds: list[list[ClientResult]], discount: float
) -> None:
    theta = Theta(4, AGGRESSIVE, discount)
    for tried in rounds:
        theta.learn(tried)
    assert sum(theta.probabilities) == pytest.approx(1)
    for allowed in ((0,), (1, 3), (0, 1, 2, 3)):
        among = theta.among(allowed)
        assert among.sum() == pytest.approx(1)
        assert among.max() > 0


def test_a_choice_says_its_mode_and_how_sure_it_is() -> None:
    even = Choice(({}, {}, {}, {}), (0.25,) * 4)
    assert (even.mode, even.entropy) == (0, pytest.approx(math.log(4)))
    sure = Choice(({}, {}), (0.0, 1.0))
    assert (sure.mode, sure.entropy) == (1, 0.0)
    assert str(sure) == "100 % for this of 2 configurations, entropy 0.00 of 0.69"


# The training as a conversation. A client learns nothing but from a good learning rate.

GOOD, ABSURD = 0.1, 1000.0
Client = Callable[[int, Any], Report]


def candidates(
    rates: Sequence[float], participants: Sequence[tuple[int, ...]] | None = None
) -> list[Candidate]:
    everyone = tuple(range(CLIENTS))
    return [
        Candidate(
            Configuration({}, {"learning_rate": rate}, {"clients_per_round": 6}),
            Forecast({}, everyone if participants is None else participants[index], {}),
        )
        for index, rate in enumerate(rates)
    ]


def plan(among: Sequence[Candidate], **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "trial": 1,
        "configuration": among[0].configuration,
        "artefact": "a" * 64,
        "hyperparameters": ("learning_rate",),
        "initial_weights": np.zeros(1, np.float32),
        "participants": tuple(sorted({c for each in among for c in each.forecast.participants})),
        "classes": 2,
        "rounds": 6,
        "metric": "accuracy",
        "deadline_s": {},
        "seed": 5,
    }
    return Plan(**(values | changes))


def learner(client: int, request: Any) -> Report:
    """Its weight says how much it has learned: 1 from each round at a good rate."""
    common: dict[str, Any] = {"trial": 1, "round": request.round, "wall_s": 1.0}
    if isinstance(request, TrainRequest):
        rate = request.hyperparameters["learning_rate"]
        gained = np.float32(rate == GOOD)
        return TrainReport(**common, weights=request.weights + gained, samples=5)
    right = min(int(request.weights[0] * 2), 8)
    return EvaluateReport(
        **common, samples=16, loss_sum=1.0, hits=(8, right), predicted=(16 - right, right),
        actual=(8, 8),
    )  # fmt: skip


def diverging(client: int, request: Any) -> Report:
    """The absurd rate ends in no numbers."""
    if isinstance(request, TrainRequest) and request.hyperparameters["learning_rate"] == ABSURD:
        return TrainReport(trial=1, round=request.round, failure="diverged")
    return learner(client, request)


def converse(
    among: Sequence[Candidate],
    client: Client = learner,
    options: Fedex = AGGRESSIVE,
    **changes: Any,
) -> tuple[np.ndarray, Learned, list[dict[int, Any]]]:
    steps = fedex(plan(among, **changes), among, options)
    exchanges: list[dict[int, Any]] = []
    answers: Any = None
    while True:
        try:
            exchange = steps.send(answers)
        except StopIteration as end:
            weights, learned = end.value
            return weights, learned, exchanges
        exchanges.append(dict(exchange))
        answers = {number: client(number, request) for number, request in exchange.items()}


def rates_given(exchanges: Sequence[dict[int, Any]]) -> dict[int, set[float]]:
    found: dict[int, set[float]] = {}
    for exchange in exchanges:
        for client, request in exchange.items():
            if isinstance(request, TrainRequest):
                rate = request.hyperparameters["learning_rate"]
                found.setdefault(client, set()).add(rate)
    return found


@pytest.mark.parametrize("client", [learner, diverging])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("schedule", ["aggressive", "adaptive"])
def test_it_comes_to_the_good_learning_rate_where_the_other_is_absurd(
    client: Client, seed: int, schedule: Any
) -> None:
    among, options = candidates((ABSURD, GOOD)), Fedex(schedule=schedule)
    weights, learned, _ = converse(among, client, options, rounds=8, seed=seed)
    assert learned.choice is not None
    assert learned.choice.configurations[learned.choice.mode] == {"learning_rate": GOOD}
    assert learned.choice.probabilities[1] > (0.8 if schedule == "aggressive" else 0.6)
    assert weights[0] > 1


def test_who_has_trained_evaluates_what_it_came_to_and_at_the_end_everyone_the_shared_weights() -> (
    None
):
    weights, learned, exchanges = converse(candidates((GOOD, ABSURD)))
    assert len(exchanges) == 13
    for training, checking in zip(exchanges[:-1:2], exchanges[1:-1:2], strict=True):
        assert training.keys() == checking.keys()
        for client, request in checking.items():
            assert isinstance(request, EvaluateRequest)
            trained = learner(client, training[client])
            assert isinstance(trained, TrainReport)
            assert (request.weights == trained.weights).all()
            assert request.round == training[client].round
    assert sorted(exchanges[-1]) == list(range(CLIENTS))
    assert all((request.weights == weights).all() for request in exchanges[-1].values())
    assert {request.round for request in exchanges[-1].values()} == {6}
    # Six clients trained and evaluated in each of six rounds; the last evaluation is not training.
    assert (learned.device_s, learned.rounds) == (72.0, 6)


def test_the_same_seed_gives_the_same_training_and_another_seed_another() -> None:
    among = candidates((0.1, 0.2, 0.3, 0.4))
    given_ = [rates_given(converse(among, seed=seed)[2]) for seed in (5, 5, 6)]
    assert given_[0] == given_[1] != given_[2]


def test_a_client_is_never_given_what_the_limits_rule_out_on_it() -> None:
    slow, fast = tuple(range(4)), tuple(range(4, CLIENTS))
    among = candidates((0.2, GOOD, 0.3), [slow + fast, fast, slow])
    seen: dict[int, set[float]] = {}
    for seed in range(20):
        _, learned, exchanges = converse(among, seed=seed)
        for client, rates in rates_given(exchanges).items():
            seen.setdefault(client, set()).update(rates)
        # What wins on the fast ones fits no other, so no other evaluates it.
        assert learned.choice is not None
        assert tuple(exchanges[-1]) == among[learned.choice.mode].forecast.participants
    expected = {client: {0.2, 0.3} if client in slow else {0.2, GOOD} for client in seen}
    assert (seen, sorted(seen)) == (expected, list(range(CLIENTS)))


def test_a_round_in_which_all_diverged_is_learned_from_and_the_next_goes_on() -> None:
    def client(number: int, request: Any) -> Report:
        if isinstance(request, TrainRequest) and request.round < 2:
            return TrainReport(trial=1, round=request.round, failure="diverged")
        return learner(number, request)

    weights, learned, exchanges = converse(candidates((GOOD, GOOD + 1)), client)
    assert learned.failures == {"diverged": 12}
    assert weights[0] > 0
    assert [len(exchange) for exchange in exchanges[:3]] == [6, 6, 6]  # none to evaluate in two
    assert all(isinstance(request, TrainRequest) for request in exchanges[2].values())


def test_a_loss_that_is_no_number_counts_as_the_worst_error() -> None:
    def client(number: int, request: Any) -> Report:
        report = learner(number, request)
        if isinstance(request, EvaluateRequest) and request.round < 6 and request.weights[0] < 1:
            return report.model_copy(update={"loss_sum": math.nan})
        return report

    _, learned, _ = converse(candidates((ABSURD, GOOD)), client)
    assert learned.choice is not None
    assert learned.choice.mode == 1
    assert learned.failures == {}


def test_devices_that_fail_for_other_reasons_teach_nothing_and_without_any_there_is_no_result() -> (
    None
):
    def client(number: int, request: Any) -> Report:
        if isinstance(request, TrainRequest) and number % 2:
            return TrainReport(trial=1, round=request.round, failure="out_of_memory")
        return learner(number, request)

    _, learned, exchanges = converse(candidates((ABSURD, GOOD)), client)
    assert learned.failures["out_of_memory"] > 0
    assert all(not number % 2 for number in exchanges[1])
    with pytest.raises(NothingLearnedError, match="no_reply"):
        converse(
            candidates((ABSURD, GOOD)),
            lambda number, request: TrainReport(trial=1, round=request.round, failure="no_reply"),
        )


STUDY = """
[study]
name = "s"
trials = 9
rounds = 9
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 4
devices = { "raspberry-pi-5" = 1.0 }
[space.client]
learning_rate = { low = 0.1, high = 1.0 }
[tuner]
"""


def test_options_are_the_authors_where_a_study_leaves_them_out() -> None:
    options = parse_study(STUDY + 'name = "fedex"', "s").tuner.exploration
    assert options == Fedex()
    assert parse_study(STUDY + 'name = "random"', "s").tuner.exploration is None
    chosen = 'name = "fedex"\nfedex = { configurations = 4, schedule = "adaptive" }'
    options = parse_study(STUDY + chosen, "s").tuner.exploration
    assert options == Fedex(configurations=4, schedule="adaptive")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("rungs = [3]", "rungs, which do not go with 'fedex'"),
        ("phases = { validate = 0.2 }", "validate, which does not go with 'fedex'"),
        ("phases = { explore = 0.2 }", "the phase explore, which 'fedex' does not know"),
        ("fedex = { configurations = 1 }", "greater than or equal to 2"),
        ("fedex = { radius = 0.0 }", "greater than 0"),
        ("fedex = { discount = 1.5 }", "less than or equal to 1"),
        ("fedex = { step_size = -1.0 }", "greater than 0"),
        ('fedex = { schedule = "agressive" }', "'aggressive', 'adaptive', 'decaying'"),
        ("fedex = { raduis = 0.1 }", "did you mean 'radius'"),
    ],
)
def test_options_that_make_no_sense_are_a_sentence(lines: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        parse_study(STUDY + 'name = "fedex"\n' + lines, "s")


def test_options_of_fedex_want_fedex_and_something_to_choose_from() -> None:
    with pytest.raises(StudyError, match="options of fedex, which 'grey' does not know"):
        parse_study(STUDY + "fedex = { configurations = 4 }", "s")
    fixed = STUDY.replace("{ low = 0.1, high = 1.0 }", "0.1") + 'name = "fedex"'
    with pytest.raises(StudyError, match=r"space\.client varies nothing"):
        parse_study(fixed, "s")
