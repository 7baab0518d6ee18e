"""Weights that are damaged or missing are trained again by the study's own command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldtune.client.contract.messages import EvaluateReport, EvaluateRequest, TrainReport
from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.federation.fleet import Addressed, failure
from support import whole_study

pytestmark = pytest.mark.integration

TRIALS = 5
FEDEX = whole_study.STUDY.replace('name = "tpe"\nrungs = [2]', 'name = "fedex"')


class OtherData(whole_study.LoggedFleet):
    """Devices whose data have changed since: they report another error."""

    def _report(self, asked: Addressed) -> TrainReport | EvaluateReport:
        report = super()._report(asked)
        if isinstance(asked.request, EvaluateRequest):
            return report.model_copy(update={"hits": (1, *[0] * 9)})
        return report


class Broken(whole_study.LoggedFleet):
    """Devices that can no longer train."""

    def _report(self, asked: Addressed) -> TrainReport | EvaluateReport:
        return failure(asked.request, "out_of_memory", "none is left")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    made: dict[str, Path] = {}

    def finish(text: str, copy: Path) -> Path:
        """A copy of a finished study's folder."""
        if text not in made:
            made[text] = tmp_path_factory.mktemp("finished")
            assert whole_study.run(made[text], TRIALS, made[text] / "log", text) == []
        shutil.copytree(made[text], copy, dirs_exist_ok=True)
        (copy / "log").write_text("")
        return copy

    return finish


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("text", [whole_study.STUDY, FEDEX], ids=["tpe", "fedex"])
@pytest.mark.parametrize("lose", [damage, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_study_trains_the_trials_of_its_front_again_whose_weights_are_lost(
    finished: Callable[[str, Path], Path], tmp_path: Path, lose: Callable[[Path], None], text: str
) -> None:
    folder = finished(text, tmp_path)
    before = (folder / "end").read_text()
    front = {
        each["trial"] for each in json.loads((folder / "run/pareto.json").read_text())["front"]
    }
    weights = [folder / f"run/models/trial-{number:04d}/weights.npy" for number in front]
    for file in weights:
        lose(file)
    notes = whole_study.run(folder, TRIALS, folder / "log", text)
    assert len(notes) == len(front)
    assert all("cannot be read" in note and "trained again" in note for note in notes)
    lines = (folder / "log").read_text().splitlines()
    assert {int(line.split()[0]) for line in lines} == front
    assert (folder / "end").read_text() == before
    (folder / "log").write_text("")
    assert whole_study.run(folder, TRIALS, folder / "log", text) == []
    assert (folder / "log").read_text() == ""


def test_the_new_outcome_counts_where_the_devices_have_changed(
    finished: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    folder = finished(whole_study.STUDY, tmp_path)
    (best, *_) = json.loads((folder / "run/pareto.json").read_text())["front"]
    damage(folder / f"run/models/trial-{best['trial']:04d}/weights.npy")
    notes = whole_study.run(folder, TRIALS, folder / "log", fleet=OtherData)
    assert "was trained again by other devices or on other data: error 0.9375" in notes[1]
    after = json.loads((folder / "run/pareto.json").read_text())
    errors = {each["trial"]: each["objectives"]["error"] for each in after["attempts"]}
    assert errors[best["trial"]] == 0.9375


def test_weights_that_cannot_be_trained_again_are_an_error_with_a_remedy(
    finished: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    folder = finished(whole_study.STUDY, tmp_path)
    (best, *_) = json.loads((folder / "run/pareto.json").read_text())["front"]
    damage(folder / f"run/models/trial-{best['trial']:04d}/weights.npy")
    with pytest.raises(RunFolderError, match=r"could not be trained again.*none is left.*backup"):
        whole_study.run(folder, TRIALS, folder / "log", fleet=Broken)
