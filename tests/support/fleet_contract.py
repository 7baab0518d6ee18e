"""The contract of a fleet, which simulated and real clients keep.

``simulations/fleet/test_fleet.py`` holds worker processes to it that simulate four clients, and
``system/test_deployment.py`` four devices that are connected over TLS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    Weights,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.runtime import Session
from fieldtune.client.training.trainer import evaluate, train
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.federation.course import mixed
from fieldtune.server.federation.exchange import Request
from fieldtune.server.federation.fleet import Addressed, Fleet, Reply
from fieldtune.server.federation.timeline import RealTimeline
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.session.training import Training
from support.artefacts import CHECK
from support.studies import dealt_data
from support.timed_training import Scene, conducted

CLIENTS = 4
Asked = tuple[int, Request]


@dataclass(frozen=True)
class Opened:
    """A fleet, and what its clients hold."""

    fleet: Fleet
    members: Sequence[Description]
    data: Sequence[ClientData]
    profiles: Sequence[str]

    @classmethod
    def of(cls, fleet: Fleet, study: Path) -> Opened:
        """A fleet whose clients hold what the simulator deals them in a study."""
        data, profiles = zip(*dealt_data(study), strict=True)
        return cls(fleet, fleet.members(), data, profiles)

    def answers(self, asked: Sequence[Asked], model: bytes) -> list[Reply]:
        """Ask, and wait for as many answers as were asked for; then for whatever else comes."""
        self.fleet.send([Addressed(client, request, model) for client, request in asked])
        replies: list[Reply] = []
        while len(replies) < len(asked):
            came = self.fleet.receive(120.0)
            assert came, f"{len(replies)} answers to {len(asked)} requests"
            replies += came
        return [*replies, *self.fleet.receive(0.2)]


def training(of: Artefact, trial: int = 0, round: int = 0, **changes: object) -> TrainRequest:
    request = TrainRequest(
        trial=trial, round=round, artefact=of.manifest.artefact_sha256,
        weights=of.initial_weights, seed=5, batch_size=8, local_epochs=1,
        hyperparameter_names=("learning_rate", "momentum"), hyperparameter_values=(0.1, 0.9),
    )  # fmt: skip
    return request.model_copy(update=changes)


def trained(
    opened: Opened, of: Artefact, mode: str, server: Mapping[str, Any]
) -> tuple[Training, list[Asked]]:
    """A completed training of two rounds, on the fleet's own clock, and what was asked of whom.

    Each update counts when it comes: where they are clipped, the first waits for other clients'.
    """
    real = opened.fleet.connected() is not None
    scene = Scene(
        tables=f'[server]\nmode = "{mode}"\nevaluate_clients = 2\nclip = false',
        server=server, clients=CLIENTS, rounds=2, artefact=of, members=opened.members,
        timeline=RealTimeline(opened.fleet.connected) if real else None,
    )  # fmt: skip
    training = scene.training_of()
    asked = conducted(training, opened.fleet)
    outcome = training.outcome
    assert isinstance(outcome, Completed), outcome
    assert outcome.learned.failures == {}
    assert outcome.learned.timing is not None
    assert outcome.learned.timing.time_s > 0
    return training, asked


class FleetContract:
    """What every fleet of four clients with digits does; a subclass has the fixture ``opened``."""

    def test_members_come_in_the_order_of_their_numbers_with_the_sizes_of_their_data(
        self, opened: Opened
    ) -> None:
        assert [member.client for member in opened.members] == list(range(CLIENTS))
        for member, data, profile in zip(opened.members, opened.data, opened.profiles, strict=True):
            assert (member.profile, member.problem) == (profile, "")
            assert (member.train_samples, member.test_samples) == (
                len(data.train_y),
                len(data.test_y),
            )
            assert (member.input_shape, member.classes) == ((8, 8, 1), 10)

    def test_every_request_is_answered_once_by_whom_it_was_for(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        asked: list[Asked] = [
            (client, training(mlp_artefact, trial, round))
            for trial, round in ((7, 0), (3, 2), (7, 1))
            for client in (2, 0, 3, 1)
        ]
        replies = opened.answers(asked, mlp_artefact.model)
        assert sorted((r.client, r.report.trial, r.report.round) for r in replies) == sorted(
            (client, request.trial, request.round) for client, request in asked
        )
        assert {reply.report.failure for reply in replies} == {None}

    def test_a_clients_weights_follow_from_its_data_and_the_seed_bit_for_bit(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        asked: list[Asked] = [
            (client, training(mlp_artefact, trial=seed, seed=seed))
            for client in range(CLIENTS)
            for seed in (5, 6)
        ]
        found = {}
        for reply in opened.answers(asked, mlp_artefact.model):
            assert isinstance(reply.report, TrainReport)
            assert reply.report.weights is not None
            found[reply.client, reply.report.trial] = reply.report.weights
            assert reply.report.samples == len(opened.data[reply.client].train_y)
        session = Session(mlp_artefact.model)
        for client, request in asked:
            assert isinstance(request, TrainRequest)
            expected = train(session, opened.data[client], request).weights
            assert (found[client, request.trial] == expected).all()
        for client in range(CLIENTS):
            assert (found[client, 5] != found[client, 6]).any()

    def test_an_evaluation_counts_every_test_sample_once(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        request = EvaluateRequest(
            trial=1, round=9, artefact=mlp_artefact.manifest.artefact_sha256,
            weights=mlp_artefact.initial_weights, metric="accuracy",
        )  # fmt: skip
        for reply in opened.answers([(c, request) for c in range(CLIENTS)], mlp_artefact.model):
            assert isinstance(reply.report, EvaluateReport)
            labels = np.bincount(opened.data[reply.client].test_y, minlength=10)
            assert reply.report.actual == tuple(labels.tolist())
            assert reply.report.samples == sum(reply.report.predicted) == labels.sum()
            assert reply.report.inference_ms is not None

    def test_a_client_evaluates_the_weights_that_it_has_just_come_to(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        """The same round's, so nothing tells the two requests apart but their kind."""
        asked: list[Asked] = [(c, training(mlp_artefact, trial=4, round=1)) for c in range(CLIENTS)]
        trained: dict[int, Weights] = {}
        for reply in opened.answers(asked, mlp_artefact.model):
            assert isinstance(reply.report, TrainReport)
            assert reply.report.weights is not None
            trained[reply.client] = reply.report.weights
        requests: list[Asked] = [
            (client, EvaluateRequest(trial=4, round=1, artefact=asked[0][1].artefact,
                                     weights=weights, metric="accuracy"))
            for client, weights in trained.items()
        ]  # fmt: skip
        session = Session(mlp_artefact.model)
        for reply in opened.answers(requests, mlp_artefact.model):
            assert isinstance(reply.report, EvaluateReport)
            request = dict(requests)[reply.client]
            assert isinstance(request, EvaluateRequest)
            expected = evaluate(session, opened.data[reply.client], request)
            assert reply.report.hits == tuple(expected.hits.tolist())

    def test_an_artefact_travels_to_a_client_only_once(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        opened.answers([(0, training(mlp_artefact))], mlp_artefact.model)
        (reply,) = opened.answers([(0, training(mlp_artefact, trial=1))], b"would be refused")
        assert reply.report.failure is None

    def test_a_client_that_lacks_an_artefact_is_sent_it_again(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        other = (CHECK / "step.tflite").read_bytes()
        request = training(mlp_artefact, artefact=hashlib.sha256(other).hexdigest())
        kept_nothing = opened.answers([(0, request)], b"another model")
        assert [reply.report.failure for reply in kept_nothing] == ["bad_artefact"]
        # The fleet takes it that the client has the artefact now.
        (loaded,) = opened.answers([(0, request.model_copy(update={"trial": 1}))], other)
        assert "the data has 10 classes, the model only 4" in loaded.report.detail

    def test_what_a_client_cannot_do_is_a_failure_of_its_own(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        other = (CHECK / "step.tflite").read_bytes()  # knows four classes; the data has ten
        broken = b"not a model"
        asked = [
            Addressed(client, training(mlp_artefact, trial=client, **changes), model)
            for client, model, changes in (
                (0, mlp_artefact.model, {"hyperparameter_values": (1e30, 0.9)}),
                (1, broken, {"artefact": hashlib.sha256(broken).hexdigest()}),
                (2, other, {"artefact": hashlib.sha256(other).hexdigest()}),
                (3, mlp_artefact.model, {}),
            )
        ]
        opened.fleet.send(asked)
        replies: list[Reply] = []
        while len(replies) < len(asked):
            replies += opened.fleet.receive(120.0)
        reports = {reply.client: reply.report for reply in replies}
        assert [reports[client].failure for client in range(CLIENTS)] == [
            "diverged", "bad_artefact", "bad_data", None,
        ]  # fmt: skip
        assert "the data has 10 classes, the model only 4" in reports[2].detail
        for client in range(3):
            report = reports[client]
            assert isinstance(report, TrainReport)
            assert report.weights is None

    def test_a_request_for_a_client_that_is_no_member_is_answered_by_a_failure(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        asked: list[Asked] = [(client, training(mlp_artefact)) for client in (0, 99)]
        replies = opened.answers(asked, mlp_artefact.model)
        assert {reply.client: reply.report.failure for reply in replies} == {
            0: None, 99: "no_reply",
        }  # fmt: skip

    def test_a_training_without_rounds_asks_who_has_answered_again(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        server = {"clients_per_round": 2, "concurrency": 3, "buffer_size": 1}
        training, asked = trained(opened, mlp_artefact, "buffered", server)
        requests = [each for _, each in asked if isinstance(each, TrainRequest)]
        given = {each.weights.tobytes() for each in requests}
        assert len(requests) == 4
        assert len(given) == 2  # the model has moved when the last of them is asked for
        assert training.weights is not None
        assert training.weights.tobytes() not in given

    def test_clients_that_train_one_after_the_other_are_mixed_into_the_model(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        server = {"clients_per_round": 2, "concurrency": 1, "mixing": 0.25}
        training, asked = trained(opened, mlp_artefact, "async", server)
        session, weights = Session(mlp_artefact.model), mlp_artefact.initial_weights
        for client, request in asked:
            if isinstance(request, TrainRequest):
                assert request.weights.tobytes() == weights.tobytes()
                own = train(session, opened.data[client], request).weights
                weights = mixed(weights, own, 0.25)
        assert training.weights is not None
        assert training.weights.tobytes() == weights.tobytes()

    def test_where_nothing_was_asked_nothing_comes(self, opened: Opened) -> None:
        assert list(opened.fleet.receive(0.0)) == []

    def test_a_closed_fleet_refuses_whatever_it_is_asked(
        self, opened: Opened, mlp_artefact: Artefact
    ) -> None:
        """The last test of each fleet."""
        opened.fleet.send([Addressed(0, training(mlp_artefact), mlp_artefact.model)])
        opened.fleet.close()
        opened.fleet.close()
        for ask in (
            opened.fleet.members,
            lambda: opened.fleet.send([]),
            lambda: opened.fleet.receive(1.0),
        ):
            with pytest.raises(FleetError, match="has been closed"):
                ask()
