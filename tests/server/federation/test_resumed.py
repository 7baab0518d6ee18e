"""A training that continues from a checkpoint asks and learns the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.encoding import compressed
from fieldtune.client.contract.messages import EvaluateReport, TrainReport, TrainRequest
from fieldtune.server.federation.exchange import Keep, Report, State
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.fedex import fedex
from fieldtune.server.federation.fedex_candidates import Candidate
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.report_checks import decoded
from fieldtune.server.federation.tally import Tally
from fieldtune.server.outcomes.trial import Forecast
from fieldtune.server.results.checkpoints import pack, unpack
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Fedex

Algorithm = Callable[[State | None, Keep], Generator[Any, Any, Any]]


def noisy(client: int, request: Any) -> Report:
    """Answers that depend on all of the request."""
    rng = np.random.default_rng([client, request.round, int(1e6 * abs(request.weights[0]))])
    common: dict[str, Any] = {"trial": 1, "round": request.round, "wall_s": rng.random()}
    if isinstance(request, TrainRequest):
        if rng.random() < 0.2:
            return TrainReport(**common, failure="out_of_memory")
        moved = rng.normal(size=request.weights.size) + request.seed / 2**32
        samples, loss = client + 1, {"start_loss": rng.random()} if request.measure_loss else {}
        weights = request.weights + moved.astype(np.float32)
        if request.correction is not None:
            weights = weights - request.correction
        if request.update is None:
            return TrainReport(**common, weights=weights, samples=samples, **loss)
        encoded, left = compressed(
            request.weights, weights, request.residual, request.update, request.seed,
            request.topk_share or 1.0,
        )  # fmt: skip
        report = TrainReport(**common, encoded=encoded, residual=left, samples=samples, **loss)
        return decoded(report, request)[0]
    hits = int(rng.integers(17))
    return EvaluateReport(
        **common, samples=16, loss_sum=rng.random(), hits=(hits, 0), predicted=(16, 0),
        actual=(16, 0),
    )  # fmt: skip


CLIENTS = tuple(range(10))
SERVER = {"clients_per_round": 5, "server_momentum": 0.9}


def configuration(rate: float, **client: Any) -> Configuration:
    return Configuration({}, {"learning_rate": rate, **client}, SERVER)


def plan(**changes: Any) -> Plan:
    told = {"configuration": configuration(0.1), **changes}
    return Plan(
        trial=1, artefact="a" * 64,
        hyperparameters=("learning_rate",), initial_weights=np.zeros(2, np.float32),
        participants=CLIENTS, classes=2, rounds=5, metric="accuracy", deadline_s={}, seed=5,
        **told,
    )  # fmt: skip


def averaging(**changes: Any) -> Algorithm:
    made = plan(rungs=(1, 3), **changes)
    return lambda resumed, keep: federated_averaging(made, resumed, keep)


def exploring(schedule: Any) -> Algorithm:
    forecast = Forecast({}, participants=CLIENTS, constraints={})
    among = [Candidate(configuration(rate), forecast) for rate in (0.1, 0.2, 0.3)]
    options = Fedex(schedule=schedule)
    return lambda resumed, keep: fedex(plan(), among, options, resumed, keep)


SCAFFOLD = configuration(
    0.1, drift_correction="scaffold", update="topk", topk_share=0.5, download="float16"
)
FAIR = configuration(0.1, update="int8", personal_steps=3)

ALGORITHMS = {
    "fedavg": averaging(),
    "scaffold, top-k": averaging(configuration=SCAFFOLD),
    "q-fedavg, int8": averaging(configuration=FAIR, server=ServerSection(aggregation="qfedavg")),
    "stopped at a rung": averaging(goes_on=lambda rounds, measures: rounds < 3),
    "fedex, adaptive": exploring("adaptive"),
    "fedex, aggressive": exploring("aggressive"),
}


def vectors(request: Any) -> list[np.ndarray]:
    found = (getattr(request, name, None) for name in ("weights", "correction", "residual"))
    return [each for each in found if each is not None]


def converse(
    algorithm: Algorithm, resumed: State | None = None
) -> tuple[list[str], list[tuple[int, bytes]]]:
    """What was asked and learned, as texts; and each stored state with the exchanges before it."""
    asked, kept, answers = list[str](), list[tuple[int, bytes]](), None
    steps = algorithm(resumed, lambda state: kept.append((len(asked), pack(state))))
    while True:
        try:
            exchange: Mapping[int, Any] = steps.send(answers)
        except StopIteration as end:
            weights, learned = end.value
            return [*asked, f"{weights.tobytes().hex()} {learned}"], kept
        asked.append(
            str(
                [
                    (c, r.scalars(), [v.tobytes().hex() for v in vectors(r)])
                    for c, r in exchange.items()
                ]
            )
        )
        answers = {client: noisy(client, request) for client, request in exchange.items()}


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())
def test_a_training_continues_after_any_round_with_the_same_bits(algorithm: Algorithm) -> None:
    asked, kept = converse(algorithm)
    assert len(kept) >= 4
    for done, packed in kept:
        assert converse(algorithm, unpack(packed))[0] == asked[done:]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_state_is_stored_after_every_round(name: str) -> None:
    asked, kept = converse(ALGORITHMS[name])
    states = [0, *(done for done, _ in kept), len(asked) - 1]
    exchanges = 2 if "fedex" in name else 1  # in FedEx, clients also evaluate in each round
    assert all(b - a <= exchanges for a, b in pairwise(states))


def test_a_checkpoint_of_an_earlier_version_has_norms_as_lists() -> None:
    algorithm = ALGORITHMS["scaffold, top-k"]
    asked, kept = converse(algorithm)
    done, packed = kept[2]
    state = unpack(packed)
    for norms in (state["tally"]["norms"], state["tally"]["memory"]["control_norms"]):
        assert norms
        for group, each in norms.items():
            assert isinstance(each, np.ndarray), "numbers as text take long to write"
            norms[group] = each.tolist()
    assert converse(algorithm, state)[0] == asked[done:]


def test_norms_that_an_earlier_version_kept_by_hyperparameters_are_none_of_a_client() -> None:
    state = {
        "failures": {}, "device_s": 0.0, "simulated": 0,
        "norms": {'{"learning_rate": 0.1}': [1.0, 2.0], "3": [4.0]},
    }  # fmt: skip
    without_rounds = Tally.of(plan(server=ServerSection(mode="async")), state)
    assert {client: [*norms] for client, norms in without_rounds.norms.items()} == {"3": [4.0]}
    assert len(Tally.of(plan(), state).norms) == 2
