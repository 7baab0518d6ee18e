"""The local trainings of one round: requests, failures, and what is done about odd updates."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Generator, Iterable, Mapping, MutableSequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from fieldtune.client.contract.messages import TrainReport, TrainRequest, Weights
from fieldtune.server.federation.client_memory import ClientMemory
from fieldtune.server.federation.direction import opposed
from fieldtune.server.federation.exchange import Answers, Collect, Exchange, Report, Untimed
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.robust import Norms, clipped
from fieldtune.server.federation.server_optimizer import Update
from fieldtune.server.federation.tally import Tally, is_lost
from fieldtune.server.study.private_averaging import private_averaging
from fieldtune.server.study.settings import (
    PLAIN,
    Algorithm,
    algorithms,
    client_settings,
    of_each,
    server_settings,
)
from fieldtune.server.study.space import Configuration

_MOST_KEPT = 4096
"""Clients whose latest norms are kept in a training without rounds."""


@dataclass(frozen=True)
class LocallyTrained:
    """The local trainings of one round; each client is usable, failed, or left out."""

    usable: Mapping[int, TrainReport]
    """Without those whose updates point against the others'."""
    failed: Mapping[int, str]
    """Client -> kind of failure."""
    answers: Answers

    @property
    def wrong(self) -> set[str]:
        """Kinds of failures that say something of the training, unlike lost results."""
        return {
            kind
            for client, kind in self.failed.items()
            if not is_lost(kind, self.answers.get(client))
        }

    @property
    def updates(self) -> list[Update]:
        """What the usable ones contribute, by client."""
        return [
            Update(report.weights, report.samples, report.start_loss)
            for report in self.usable.values()
            if report.weights is not None
        ]


def train_locally(
    plan: Plan,
    number: int,
    weights: Weights,
    configurations: Mapping[int, Configuration],
    tally: Tally,
) -> Generator[Exchange, Answers, LocallyTrained]:
    """Each client trains the given weights with its configuration, as one exchange.

    The round ends when all have answered, when ``clients_per_round`` have a usable result where
    more were asked, or at its deadline. A client that has not answered by then has failed: as
    ``surplus`` where enough others have, else as ``late``.
    """
    settings, now_s = server_settings(plan.configuration), plan.situation.now_s
    wanted = int(settings["clients_per_round"])
    deadline_s = float(settings["deadline_s"]) or math.inf
    answers = yield Collect(
        train_requests(
            plan,
            ((client, number, weights, each) for client, each in configurations.items()),
            tally.memory,
        ),
        # With differential privacy no client may be left out because others are there.
        usable=wanted
        if len(configurations) > wanted and not private_averaging(plan.configuration)
        else math.inf,
        # A sample of no client is a round that takes no time.
        until_s=min(now_s + deadline_s, plan.most_s) if configurations else now_s,
    )
    tally.take(answers)
    usable, failed = dict[int, TrainReport](), dict[int, str]()
    for client, algorithm in algorithms(configurations, plan.server).items():
        if (report := answers.get(client)) is None:
            continue
        report = tally.memory.accepted(algorithm, client, weights, report)
        failure = failure_of(report, plan.deadline_s.get(client), weights, algorithm)
        if failure:
            failed[client] = failure
        elif isinstance(report, TrainReport):
            usable[client] = report
    missing = "surplus" if len(usable) >= wanted else "late"
    failed |= {client: missing for client in configurations if client not in answers}
    tally.failures.update(failed.values())
    note_losses(tally, usable.values())
    screen(plan, weights, usable, configurations, tally)
    tally.memory.learn(plan, weights, usable, configurations)
    tally.updates += len(usable)
    if usable or tally.time_s is None:
        note_time(plan, tally)
    return LocallyTrained(usable, failed, answers)


def note_time(plan: Plan, tally: Tally) -> None:
    """Keep the time: that of the latest update of the model."""
    if not isinstance(plan.situation, Untimed):
        tally.time_s = plan.situation.now_s


def note_losses(tally: Tally, usable: Iterable[TrainReport]) -> None:
    """Keep the median loss of a round's clients."""
    losses = [
        report.loss for report in usable if report.loss is not None and math.isfinite(report.loss)
    ]
    if losses:
        tally.losses.append(median(losses))


def screen(
    plan: Plan,
    weights: Weights,
    usable: dict[int, TrainReport],
    configurations: Mapping[int, Configuration],
    tally: Tally,
) -> None:
    """Scale down the updates in ``usable`` that are far larger than the others of their group.

    Those that point against the others round after round are left out.
    """
    if private_averaging(plan.configuration):  # it clips by itself, and may not compare updates
        return
    if plan.server.clip:
        groups = of_each(configurations, lambda configuration: json.dumps(configuration.client))
        updates = {c: each.weights for c, each in usable.items() if each.weights is not None}
        norms = tally.norms if plan.server.mode == "sync" else _others_latest(tally, groups)
        found = clipped(weights, updates, groups, norms, plan.on_norm)
        if norms is not tally.norms:
            _keep_latest(tally, updates, norms)
        for client, (smaller, times) in found.items():
            usable[client] = usable[client].model_copy(update={"weights": smaller})
            plan.on_clipped(client, usable[client].round, times)
    if plan.server.check_direction:
        updates = {c: each.weights for c, each in usable.items() if each.weights is not None}
        for client, evidence in opposed(weights, updates, tally.opposition).items():
            plan.on_opposed(client, usable.pop(client).round, evidence)


def _others_latest(tally: Tally, groups: Mapping[int, str]) -> Norms:
    """The norm of each other client's latest update, for a training without rounds.

    There a client answers as often as it can, and who is fast is not to decide what is ordinary.
    All clients have the same hyperparameters.
    """
    others: MutableSequence[float] = [
        norms[-1] for client, norms in tally.norms.items() if int(client) not in groups
    ]
    return dict.fromkeys(groups.values(), others)


def _keep_latest(tally: Tally, clients: Collection[int], norms: Norms) -> None:
    """Keep these clients' norms, which are the last ones of the only group."""
    latest = [norm for each in norms.values() for norm in each]
    with_norm = [*clients][-len(latest) :]  # all, unless more came than norms are kept
    for client, norm in zip(with_norm, latest[-len(with_norm) :], strict=True):
        tally.norms.pop(str(client), None)
        tally.norms[str(client)] = [norm]
    for oldest in [*tally.norms][:-_MOST_KEPT]:
        del tally.norms[oldest]


def train_requests(
    plan: Plan, asked: Iterable[tuple[int, int, Weights, Configuration]], memory: ClientMemory
) -> dict[int, TrainRequest]:
    """Requests by client: to train these weights in this round, with what is kept of the client.

    Requests that differ in the seed only share all else, so that it is checked and sent once.
    """
    names = tuple(name for name in plan.hyperparameters if name != "seed")
    found = dict[int, TrainRequest]()
    alike = dict[tuple[int, int, int], tuple[Algorithm, TrainRequest]]()
    for client, number, weights, configuration in asked:
        seed = int(np.random.SeedSequence([plan.seed, number, client]).generate_state(1)[0])
        key = number, id(weights), id(configuration)
        if key not in alike:
            settings = client_settings(configuration)
            request = TrainRequest(
                trial=plan.trial,
                round=number,
                artefact=plan.artefact,
                weights=weights,
                seed=seed,
                batch_size=int(settings["batch_size"]),
                local_epochs=int(settings["local_epochs"]),
                hyperparameter_names=names,
                hyperparameter_values=tuple(float(settings[name]) for name in names),
            )
            alike[key] = Algorithm.of(configuration, plan.server), request
        algorithm, request = alike[key]
        request = request.model_copy(update={"seed": seed})
        found[client] = memory.prepared(plan, algorithm, client, request)
    return found


def failure_of(
    report: Report, deadline_s: float | None, weights: Weights, algorithm: Algorithm = PLAIN
) -> str | None:
    """The kind of failure of a training report, or None; the client's own claim is not trusted."""
    if report.failure:
        return report.failure
    if not isinstance(report, TrainReport) or report.weights is None or report.samples == 0:
        return "error"
    if report.weights.shape != weights.shape:
        return "error"
    if not np.isfinite(report.weights).all():
        return "diverged"
    if algorithm.measures_loss and report.start_loss is None:
        return "diverged"  # it has no finite loss
    if deadline_s is not None and (report.wall_s or 0.0) > deadline_s:
        return "deadline"
    return None
