"""Deployable files of recommended points and the defaults, each measured on the clients' test data.

Converting changes a model, int8 most. So every variant is sent to the clients that took part and
evaluated there as it would be deployed; what they count is written beside its size. Of a study that
is resumed they are those that are still in the fleet, or all of today's fleet where none is.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Description, EvaluateReport, VariantRequest
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.load_object import load_object, searching
from fieldtune.server.compiler.manifest import Variant
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.evaluation import evaluation
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fleet import Addressed, Fleet
from fieldtune.server.federation.per_client import per_client
from fieldtune.server.federation.plausible import Asked, Bounds
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.federation.worklists import worked_off
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.results.card import card_data, card_json
from fieldtune.server.results.model_files import card_path, variant_path, written_variants
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Point
from fieldtune.server.results.stored_files import ClassCounts, DeviceError, VariantFile
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.task_options import TaskSection


@dataclass
class _Measuring:
    """A point whose variants are written and being measured."""

    point: Point
    models: dict[Variant, bytes] = field(default_factory=dict)
    clients: Sequence[int] = ()
    """Who is asked."""
    asked: dict[Variant, Asked] = field(default_factory=dict)
    answers: dict[Variant, dict[int, Report]] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether every client has answered for every variant."""
        return all(len(answers) == len(self.clients) for answers in self.answers.values())


class VariantMaker:
    """Converts and measures the variants of trained trials.

    Args:
        folder: of the run; files are written there.
        artefacts: knows the trials' models.
        service: converts.
        fleet: measures.
        members: the fleet's clients.
        bounds: judge what they report.
    """

    def __init__(
        self,
        folder: RunFolder,
        artefacts: Artefacts,
        service: CompileService,
        fleet: Fleet,
        members: Sequence[Description],
        bounds: Bounds,
    ) -> None:
        self._folder, self._task = folder, folder.study.task
        self._artefacts, self._service, self._fleet = artefacts, service, fleet
        self._bounds = bounds
        self._classes = 0 if self._task.reconstructs else members[0].classes
        self._import_path = service.import_path
        self._data = card_data(folder.study, members)
        self._name_of = {member.client: member.name for member in members}
        self._profile_of = {member.client: member.profile for member in members}

    def make(self, points: Sequence[Point], outcomes: Sequence[Outcome]) -> list[str]:
        """Write and measure the variants of every point that lacks them, and its card.

        Returns:
            A sentence for each point of which a variant could not be measured on any client. Its
            files are written, but no card, so that they are measured when the study is resumed.
        """
        completed = {o.proposal.number: o for o in outcomes if isinstance(o, Completed)}
        missing = [p for p in points if not written_variants(self._folder, p.trial)]
        calibration = None
        if "int8" in self._task.variants and missing:
            calibration = calibration_samples(self._task, self._import_path)
        converting = [
            (point, self._convert(completed[point.trial], calibration)) for point in missing
        ]
        measuring: dict[int, _Measuring] = {}
        requests: list[Addressed] = []
        for point, converted in converting:
            each = _Measuring(point, clients=self._clients(completed[point.trial]))
            measuring[point.trial] = each
            for name, model in converted.result().items():
                each.models[name], each.answers[name] = model, {}
                self._folder.write(variant_path(point.trial, name), each.models[name])
                requests += self._requests(each, name)
        unmeasured = []
        for reply in worked_off(self._fleet, requests):
            self._bounds.hear(reply)
            each = measuring[reply.report.trial]
            each.answers[self._task.variants[reply.report.round]][reply.client] = reply.report
            if each.is_done:
                try:
                    self._write_card(each)
                except NothingLearnedError as nothing:
                    names = ", ".join(each.models)
                    unmeasured.append(f"trial {each.point.trial} ({names}): {nothing}")
        return unmeasured

    def _convert(
        self, trial: Completed, calibration: NDArray[np.float32] | None
    ) -> Future[dict[Variant, bytes]]:
        return self._service.variants(
            self._artefacts.spec(trial.proposal.configuration),
            self._folder.load_weights(trial.proposal.number, trial.weights_sha256),
            self._task.variants,
            calibration,
        )

    def _clients(self, trial: Completed) -> list[int]:
        """The clients that took part in a trial and are in the fleet; else all that are."""
        there = {c for c in self._profile_of if not self._bounds.refusals.sits_out(c)}
        took_part = [client for client in trial.forecast.participants if client in there]
        return took_part or sorted(there)

    def _requests(self, measuring: _Measuring, name: Variant) -> list[Addressed]:
        model = measuring.models[name]
        request = VariantRequest(
            trial=measuring.point.trial,
            round=self._task.variants.index(name),
            artefact=hashlib.sha256(model).hexdigest(),
            metric=self._task.metric,
            loss=self._task.loss,
        )
        measuring.asked[name] = self._bounds.ask(
            dict.fromkeys(measuring.clients, request), self._classes
        )
        return [Addressed(client, request, model) for client in measuring.clients]

    def _write_card(self, measuring: _Measuring) -> None:
        """Write what the clients counted.

        Raises:
            NothingLearnedError: of one variant no client did.
        """
        variants: dict[str, VariantFile] = {
            name: self._variant_file(
                model, self._bounds.judge(measuring.asked[name], measuring.answers[name])
            )
            for name, model in measuring.models.items()
        }
        card = card_json(self._folder.study, measuring.point, variants, self._data)
        self._folder.write(card_path(measuring.point.trial), card)

    def _variant_file(self, model: bytes, answers: Mapping[int, Report]) -> VariantFile:
        measures, samples = evaluation(answers, self._classes, self._task.metric, Counter())
        each = per_client(answers, self._classes, self._task.metric)
        return VariantFile(
            bytes=len(model),
            sha256=hashlib.sha256(model).hexdigest(),
            measures=measures,
            test_samples=samples,
            inference_ms=self._medians(answers, lambda report: report.inference_ms),
            inference_mj=self._medians(answers, _inference_mj),
            client_errors=self._by_profile(each.errors),
            device_errors={
                self._name_of[client]: DeviceError(
                    error=round(error, 6), samples=getattr(answers[client], "samples", 0)
                )
                for client, error in each.errors.items()
                if self._name_of[client]
            },
            classes=ClassCounts(
                hits=each.hits,
                predicted=each.predicted,
                actual=each.actual,
                confusion=each.confusion,
            )
            if each.actual
            else None,
        )

    def _medians(
        self, answers: Mapping[int, Report], value: Callable[[EvaluateReport], float | None]
    ) -> dict[str, float]:
        """Device type -> median over its clients that were neither throttled nor swapping."""
        values = {
            client: found
            for client, report in answers.items()
            if isinstance(report, EvaluateReport)
            and not report.failure
            and report.is_sound
            and (found := value(report)) is not None
        }
        return {profile: median(found) for profile, found in self._by_profile(values).items()}

    def _by_profile(self, values: Mapping[int, float]) -> dict[str, list[float]]:
        """Device type -> the values of its clients, ascending."""
        found: dict[str, list[float]] = defaultdict(list)
        for client, value in values.items():
            found[self._profile_of[client]].append(round(value, 6))
        return {profile: sorted(found[profile]) for profile in sorted(found)}


def calibration_samples(task: TaskSection, import_path: Sequence[str]) -> NDArray[np.float32]:
    """What the study's ``task.calibration`` returns: samples ``[n, *input_shape]`` for int8.

    Raises:
        DataError: there is no such function, or it fails.
    """
    name = str(task.calibration)
    with searching(import_path):
        function = load_object(name, setting="task.calibration", error=DataError)
        try:
            samples: Any = function()
        except (Exception, SystemExit) as failed:  # a user's function may raise anything
            raise DataError(
                f"task.calibration = {name!r} raised {type(failed).__name__}: {failed}"
            ) from failed
    return np.ascontiguousarray(samples, np.float32)


def _inference_mj(report: EvaluateReport) -> float | None:
    if report.energy_j is None or not report.samples:
        return None
    return 1e3 * report.energy_j / report.samples
