"""A study that is resumed with other devices than it was begun with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    VariantRequest,
)
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.fleet import Addressed, failure
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.session import open_tuner, run_session
from support.slow_studies import Silent, nothing_is_refused, study_text
from support.slower_devices import MEMBERS, PulledPlugError, SlowFleet

pytestmark = pytest.mark.integration

TRIALS = 6
ENROLLED_ANEW = [*MEMBERS[:1], *MEMBERS[2:], MEMBERS[1].model_copy(update={"client": 7})]
ONE_IS_OFF = MEMBERS[:3]


def study_of(tuner_name: str, tuner_keys: str) -> str:
    text = study_text(1000.0, tuner_name, tuner_keys=tuner_keys)
    return text.replace('model = "mlp"', 'model = "mlp"\nvariants = ["fp32"]')


@pytest.fixture(scope="module")
def service(artefact_cache: Path) -> Iterator[CompileService]:
    with CompileService(ArtefactCache(artefact_cache)) as made:
        yield made


def session(
    folder: Path, text: str, service: CompileService, fleet: SlowFleet
) -> tuple[Summary, list[Outcome]]:
    """Run the study in a folder, or go on with it."""
    with RunFolder(folder, text, trials=TRIALS) as opened:
        tuner = open_tuner(opened)
        summary = run_session(
            opened, tuner, fleet, service, Silent(), CpuTime(), nothing_is_refused
        )
        return summary, tuner.history()


def told(folder: Path, text: str) -> dict[int, Outcome]:
    """The outcomes that a folder holds."""
    with RunFolder(folder, text, trials=TRIALS) as opened:
        return {outcome.proposal.number: outcome for outcome in open_tuner(opened).history()}


@pytest.mark.parametrize("members", [ENROLLED_ANEW, ONE_IS_OFF], ids=["enrolled-anew", "off"])
@pytest.mark.parametrize(
    ("tuner_name", "tuner_keys"),
    [("grey", "rungs = [1]\nphases = { explore = 0.5, validate = 0.5 }"), ("fedex", "")],
    ids=["grey-with-rungs", "fedex"],
)
def test_a_study_killed_in_the_middle_of_trials_ends_with_another_fleet(
    service: CompileService,
    tmp_path: Path,
    members: Sequence[Description],
    tuner_name: str,
    tuner_keys: str,
) -> None:
    text = study_of(tuner_name, tuner_keys)
    with pytest.raises(PulledPlugError):
        session(tmp_path / "run", text, service, SlowFleet(50, newest_first=False))
    before = told(tmp_path / "run", text)
    assert 0 < len(before) < TRIALS
    fleet = SlowFleet(math.inf, newest_first=False, members=members)
    summary, history = session(tmp_path / "run", text, service, fleet)
    assert (summary.trials, summary.failed) == (TRIALS, 0)
    after = {outcome.proposal.number: outcome for outcome in history}
    assert {number: after[number] for number in before} == before
    for point in summary.exported:
        trained = after[point.trial]
        assert isinstance(trained, Completed)
        there = set(trained.forecast.participants) & {member.client for member in members}
        assert point.variants["fp32"].test_samples == 16 * len(there)


class CannotDeploy(SlowFleet):
    """Devices whose runtime refuses every file to deploy."""

    def _report(self, asked: Addressed) -> TrainReport | EvaluateReport:
        if isinstance(asked.request, VariantRequest):
            report = failure(asked.request, "bad_artefact", "no such op")
            assert isinstance(report, EvaluateReport)
            return report
        return super()._report(asked)


def test_files_that_no_device_could_measure_are_a_sentence_after_all_else_is_written(
    service: CompileService, tmp_path: Path
) -> None:
    text, folder = study_of("tpe", ""), tmp_path / "run"
    with pytest.raises(FleetError, match=r"All trials are done.*\(4 x bad_artefact\): no such op"):
        session(folder, text, service, CannotDeploy(math.inf, newest_first=False))
    assert (folder / "report.html").exists()
    assert len(told(folder, text)) >= TRIALS
    summary, _ = session(folder, text, service, SlowFleet(math.inf, newest_first=False))
    assert all(point.variants for point in summary.exported)


class GrowingFleet(SlowFleet):
    """A device joins after the third trial has begun."""

    def __init__(self) -> None:
        super().__init__(math.inf, newest_first=False, members=MEMBERS[:3])
        self.looks = 0

    def joined(self) -> Sequence[Description]:
        self.looks += 1
        if self.looks != 4:
            return []
        self._members[3] = MEMBERS[3]
        return MEMBERS[3:]


def test_a_device_that_joins_is_asked_in_new_trials(
    service: CompileService, tmp_path: Path
) -> None:
    text = study_of("random", "")
    _, outcomes = session(tmp_path / "run", text, service, GrowingFleet())
    trained = [outcome for outcome in outcomes if isinstance(outcome, Completed)]
    took_part = [3 in outcome.forecast.participants for outcome in trained]
    assert took_part == [False] * 3 + [True] * (TRIALS - 3)
    assert all(outcome.learned.samples == 16 * (3 + joined)
               for outcome, joined in zip(trained, took_part, strict=True))  # fmt: skip
