"""The files to deploy are measured on the devices that are there, whoever trained the trials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fieldtune.client.contract.messages import EvaluateReport
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import Completed, Forecast, Learned, Proposal
from fieldtune.server.results.model_files import read_card, with_variants, write_cards
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.results.variants import VariantMaker
from fieldtune.server.study.space import Configuration
from support.scripted_devices import Answer, Scene

STUDY = """
[study]
name = "s"
trials = 2
rounds = 1
objectives = ["error"]
[task]
data = "digits"
model = "mlp"
variants = ["fp32", "fp16"]
[fleet]
clients = 2
devices = { "raspberry-pi-5" = 1.0 }
[space.model]
width = { choices = [8, 16] }
"""


class Converter:
    """Makes files that say what they are of; the real one starts TensorFlow."""

    import_path = ()

    def variants(
        self, spec: str, weights: Any, names: Sequence[str], calibration: None
    ) -> Future[dict[str, bytes]]:
        made: Future[dict[str, bytes]] = Future()
        made.set_result({name: f"{name} of {spec} {weights[0]:.0f}".encode() for name in names})
        return made


def counted(message: Message) -> RecordDict:
    """Of three test samples one is right on device 100, two on 101."""
    asked = message.content.config_records["message"]
    right = message.metadata.dst_node_id - 99
    report = EvaluateReport(
        trial=int(str(asked["trial"])), round=int(str(asked["round"])), samples=3, loss_sum=1.0,
        hits=(right, *[0] * 9), predicted=(right, 3 - right, *[0] * 8), actual=(3, *[0] * 9),
        inference_ms=2.0,
        energy_j=0.012,
        confusion=(right, 3 - right, *[0] * 98) if message.metadata.dst_node_id == 100 else None,
    )  # fmt: skip
    return RecordDict({"message": ConfigRecord(report.scalars())})


def only(node: int) -> Answer:
    return lambda message: counted(message) if message.metadata.dst_node_id == node else None


def make(
    folder: RunFolder, scene: Scene, participants: Sequence[int], trials: Sequence[int] = (0, 1)
) -> list[str]:
    """Have the files of trials made that these clients had trained."""
    outcomes = [
        Completed(
            Proposal(trial, Configuration({"width": 8}, {}, {})),
            Forecast({}, tuple(participants), {}),
            Learned({"error": 0.1}, 6, 0, {}, simulated=False),
            {"error": 0.1},
            0,
        )
        for trial in trials
    ]
    points = [
        Point(trial=trial, configuration={"width": 8}, objectives={}, measures={"error": 0.1},
              test_samples=6, devices={})
        for trial in trials
    ]  # fmt: skip
    for trial in trials:
        folder.save_weights(trial, np.full(3, trial, np.float32))
    artefacts: Any = SimpleNamespace(spec=lambda configuration: "mlp")
    service: Any = Converter()
    maker = VariantMaker(
        folder, artefacts, service, scene.fleet, scene.members, Bounds(scene.members, print)
    )
    return maker.make(points, outcomes)


def samples(folder: RunFolder, trial: int) -> dict[str, int]:
    """Variant -> the test samples that it was measured on."""
    card = json.loads((folder.path / f"models/trial-{trial:04}/card.json").read_text())
    return {name: file["test_samples"] for name, file in card["variants"].items()}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    with RunFolder(tmp_path / "run", STUDY) as opened:
        yield opened


@pytest.mark.parametrize(
    ("participants", "measured"),
    [([0, 1], 6), ([0, 6], 3), ([6, 7], 6)],
    ids=["all-there", "one-removed", "all-enrolled-anew"],
)
def test_files_are_measured_on_the_participants_that_are_there_else_on_the_whole_fleet(
    folder: RunFolder, participants: list[int], measured: int
) -> None:
    assert make(folder, Scene(counted), participants) == []
    for trial in (0, 1):
        assert samples(folder, trial) == {"fp32": measured, "fp16": measured}


def test_cards_say_what_is_known_when_a_study_goes_on(folder: RunFolder) -> None:
    """Another run of a configuration, or names of classes, and the files are the same."""
    assert make(folder, Scene(counted), [0, 1]) == []
    before = read_card(folder.path, 0)
    error = {"error": Estimate(0.2, 0.1, 0.3)}
    point = Point(trial=0, configuration={"width": 8}, objectives=error, measures={"error": 0.2},
                  test_samples=9, runs=3, devices={})  # fmt: skip
    summary = Summary(
        study="s", seed=0, objectives=folder.study.study.objectives, metric="accuracy",
        devices={}, simulated=True, trials=1, infeasible=0, failed=0, front=[point],
        recommended={}, defaults=None, attempts=[],
    )  # fmt: skip
    write_cards(folder, with_variants(folder, summary), tuple("0123456789"))
    card = json.loads((folder.path / "models/trial-0000/card.json").read_text())
    assert (card["runs"], card["test_samples"], card["objectives"]["error"]["value"]) == (3, 9, 0.2)
    assert read_card(folder.path, 0).variants == before.variants
    assert (
        "Runs of this configuration: 3" in (folder.path / "models/trial-0000/card.md").read_text()
    )
    assert with_variants(folder, summary).labels == tuple("0123456789")
    write_cards(folder, with_variants(folder, summary))
    assert with_variants(folder, summary).labels == tuple("0123456789")
    write_cards(folder, with_variants(folder, summary), ())
    assert with_variants(folder, summary).labels == ()


def test_errors_are_kept_client_by_client_and_counts_class_by_class(folder: RunFolder) -> None:
    assert make(folder, Scene(counted), [0, 1]) == []
    file = read_card(folder.path, 0).variants["fp16"]
    (errors,) = file.client_errors.values()
    assert errors == pytest.approx([1 / 3, 2 / 3], abs=1e-6)
    assert list(file.inference_mj.values()) == [4.0]
    assert {name: (each.error, each.samples) for name, each in file.device_errors.items()} == {
        "pi-a": (pytest.approx(2 / 3, abs=1e-6), 3),
        "pi-b": (pytest.approx(1 / 3, abs=1e-6), 3),
    }
    assert file.classes is not None
    nine = [0] * 9
    counts = file.classes.model_dump()
    # Device 101 is of an earlier version, or its owner does not allow it.
    assert counts.pop("confusion") == [[1, 2, *nine[1:]], *[[0, *nine]] * 9]
    assert counts == {"hits": [3, *nine], "predicted": [3, 3, *nine[1:]], "actual": [6, *nine]}


def test_a_device_that_is_off_is_not_waited_for(folder: RunFolder) -> None:
    scene = Scene(counted, there=["pi-a"])
    began = scene.time.now
    assert make(folder, scene, [0, 1]) == []
    assert samples(folder, 1) == {"fp32": 3, "fp16": 3}
    assert scene.time.now - began < 10


def test_a_device_that_does_not_answer_is_waited_for_once_and_not_for_each_file(
    folder: RunFolder,
) -> None:
    scene = Scene(only(100))
    began = scene.time.now
    assert make(folder, scene, [0, 1]) == []
    assert samples(folder, 1) == {"fp32": 3, "fp16": 3}
    assert 590 < scene.time.now - began < 620


def test_a_device_that_leaves_is_waited_for_once_and_the_others_work_meanwhile(
    folder: RunFolder,
) -> None:
    left: list[float] = []

    def answer(message: Message) -> RecordDict | Error | None:
        if message.metadata.dst_node_id == 101:
            if not left:
                scene.run.there.pop()
                left.append(scene.time.now)
            return None
        answered.append(scene.time.now)
        return counted(message)

    answered: list[float] = []
    scene = Scene(answer)
    assert make(folder, scene, [0, 1]) == []
    assert samples(folder, 1) == {"fp32": 3, "fp16": 3}
    assert 170 < scene.time.now - left[0] < 200
    assert len(answered) == 4
    assert max(answered) - left[0] < 20


def test_what_no_device_could_measure_is_said_and_measured_when_the_study_is_resumed(
    folder: RunFolder,
) -> None:
    def fails_at_trial_1(message: Message) -> RecordDict | Error:
        asked = message.content.config_records["message"]
        return Error(2, "no such op") if asked["trial"] == 1 else counted(message)

    (said,) = make(folder, Scene(fails_at_trial_1), [0, 1])
    assert said.startswith("trial 1 (fp32, fp16): no client returned a result (2 x error): ")
    assert "no such op" in said
    assert samples(folder, 0) == {"fp32": 6, "fp16": 6}
    assert not (folder.path / "models/trial-0001/card.json").exists()
    scene = Scene(counted)
    assert make(folder, scene, [0, 1]) == []
    assert samples(folder, 1) == {"fp32": 6, "fp16": 6}
    asked = [m for m in scene.run.sent if m.metadata.message_type == "evaluate.variant"]
    assert {m.content.config_records["message"]["trial"] for m in asked} == {1}
