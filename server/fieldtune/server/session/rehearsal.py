"""What a user wrote is tried once before anything trains, on a client's samples where needed."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldtune.client.contract.messages import Description, EvaluateReport, EvaluateRequest
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.load_object import searching
from fieldtune.server.compiler.sources import check_defines, is_there
from fieldtune.server.federation.fleet import Addressed, Fleet, Reply
from fieldtune.server.federation.metrics import chance_level
from fieldtune.server.federation.own_aggregation import tried
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.server.study.settings import own_settings

_WAIT_S = 1.0


@dataclass(frozen=True)
class Rehearsal:
    """What the metric returned on one client.

    Attributes:
        client: its number.
        samples: test samples that it evaluated.
        value: of the metric; None where it follows from counts of correct predictions.
    """

    client: int
    samples: int
    value: float | None

    def __str__(self) -> str:
        value = "works" if self.value is None else f"gives {self.value:.3g}"
        samples = f"{self.samples} test sample{'s' * (self.samples != 1)}"
        return f"{value} for the untrained model on client {self.client} ({samples})"


def rehearse(
    study: StudyConfig, members: Sequence[Description], artefacts: Artefacts, fleet: Fleet
) -> Rehearsal | None:
    """Evaluate the untrained model of the defaults on the first client that has test samples.

    Returns:
        None where no client has test samples, or this one could not evaluate for a reason of its
        own (a device may be switched off).

    Raises:
        CompileError: the model cannot be compiled.
        UsageError: the metric raises, or does not return a value and a weight.
    """
    tested = next((member for member in members if member.test_samples), None)
    if tested is None:
        return None
    artefact = artefacts.of(study.full_space.defaults()).result()
    request = EvaluateRequest(
        trial=0,
        round=0,
        artefact=artefact.manifest.artefact_sha256,
        weights=artefact.initial_weights,
        metric=study.task.metric,
    )
    fleet.send([Addressed(tested.client, request, artefact.model)])
    replies: Sequence[Reply] = ()
    while not replies:
        replies = fleet.receive(_WAIT_S)
    report = replies[0].report
    if report.failure:
        if report.detail.startswith("task.metric"):
            raise UsageError(report.detail)
        return None
    assert isinstance(report, EvaluateReport)
    if report.value is not None:
        _check_value(study, report.value)
    return Rehearsal(tested.client, report.samples, report.value)


def check_names(study: StudyConfig, import_path: Sequence[str]) -> None:
    """Refuse names of the user's own functions and classes that their modules do not have.

    Nothing is imported. A metric whose module is not here may be on the devices.

    Raises:
        UsageError: there is such a name.
    """
    path = [*import_path, *sys.path]
    for model in study.task.models:
        if ":" in model:
            check_defines(model, "task.model", path)
    if study.task.own_metric and is_there(study.task.metric, path):
        check_defines(study.task.metric, "task.metric", path)
    if study.server.own_aggregation:
        check_defines(study.server.aggregation, "server.aggregation", path)
    if ":" in study.tuner.name:
        check_defines(study.tuner.name, "tuner.name", path)


def try_aggregation(study: StudyConfig, import_path: Sequence[str]) -> None:
    """Call an aggregation of the user's own on updates of zeros and ones.

    It is imported here, and stays imported for the session.

    Raises:
        UsageError: it does not work.
    """
    if study.server.own_aggregation:
        with searching(import_path):
            tried(study.server.aggregation, own_settings(study.full_space.defaults()))


def metric_line(study: StudyConfig, facts: DataFacts, rehearsal: Rehearsal | None) -> str:
    """The metric's name, and its chance level or, for a user's own, what it gave when tried."""
    if study.task.own_metric:
        return f"{study.task.metric}: {rehearsal or 'not tried'}"
    if study.task.reconstructs:
        return f"loss ({study.task.loss})"
    chance = chance_level(study.task.metric, np.array(facts.class_samples))
    return f"{study.task.metric}: {chance:.3f} by chance (always the most frequent class)"


def _check_value(study: StudyConfig, value: float) -> None:
    """Refuse a value that the objectives cannot be computed from."""
    metric = f"task.metric = {study.task.metric!r} returned the value {value:g}"
    if not math.isfinite(value):
        raise UsageError(f"{metric}: return a finite number, with weight 0 where there is none")
    names = [objective.name for objective in study.study.objectives]
    of_error = [name for name in names if name in ("error", "worst_error")]
    if of_error and not 0 <= value <= 1:
        raise UsageError(
            f"{metric}, and the objective {of_error[0]} is 1 - metric: return a share within 0..1, "
            "or take 'metric' as the objective"
        )
