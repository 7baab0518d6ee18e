"""The light node and a real SuperLink with TLS and node authentication, and what may go wrong."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fieldtune.client.contract.messages import EvaluateRequest, TrainReport, TrainRequest
from fieldtune.client.data.files import load_device_data
from fieldtune.client.node.waiting import poll_interval_s
from fieldtune.client.training.runtime import Session
from fieldtune.client.training.trainer import train
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.federation.fleet import Addressed
from support.control_group import control_group
from support.devices import Device, wait_for
from support.full_disk import filled
from support.grid_fleet import GridFleet
from support.superlink import DatabaseGrid, SuperLink

pytestmark = pytest.mark.system

Start = Callable[..., Device]
LONG = 10**6
"""Local epochs that nobody waits for."""


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    running = SuperLink(tmp_path_factory.mktemp("superlink"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def start(superlink: SuperLink, tmp_path: Path, data: Path) -> Iterator[Start]:
    devices: list[Device] = []

    def begin(name: str, where: str = str(data)) -> Device:
        bundle = superlink.enroll(name)
        devices.append(Device(tmp_path / name, bundle, where))
        devices[-1].start()
        return devices[-1]

    yield begin
    for device in devices:
        device.clean_up()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8, 8, 1)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x, y=np.arange(40) % 10)
    (folder / "data.toml").write_text('[privacy]\nmetrics = ["accuracy", "hungry:metric"]\n')
    return folder


HUNGRY = """
def metric(y_true, logits):
    return len(b"x" * (512 << 20)) / (512 << 20), float(len(y_true))
"""


@pytest.fixture
def small_board() -> Iterator[Path]:
    """A control group of 256 MB."""
    with control_group(256 * 10**6) as group:
        yield group


def request(artefact: Artefact, trial: int = 0, local_epochs: int = 2) -> TrainRequest:
    return TrainRequest(
        trial=trial, round=3, artefact=artefact.manifest.artefact_sha256,
        weights=artefact.initial_weights, seed=5, batch_size=8, local_epochs=local_epochs,
        hyperparameter_names=("learning_rate", "momentum"), hyperparameter_values=(0.1, 0.9),
    )  # fmt: skip


class Coordinator:
    """One run over the SuperLink, with a single device in it."""

    def __init__(self, superlink: SuperLink) -> None:
        self.grid = DatabaseGrid(superlink)
        self.fleet = GridFleet(self.grid)

    def ask(self, artefact: Artefact, **changes: int) -> None:
        self.fleet.members()
        self.fleet.send([Addressed(0, request(artefact, **changes), artefact.model)])

    def answer(self) -> TrainReport:
        replies = wait_for(lambda: self.fleet.receive(1.0))
        assert len(replies) == 1
        assert isinstance(replies[0].report, TrainReport)
        return replies[0].report


def test_a_device_joins_trains_on_its_own_data_and_says_goodbye(
    superlink: SuperLink, start: Start, data: Path, mlp_artefact: Artefact
) -> None:
    device = start("kitchen")
    device.until("connected")
    run = Coordinator(superlink)
    (member,) = run.fleet.members()
    assert (member.name, member.profile) == ("kitchen", "x86-mini-pc")
    assert (member.train_samples, member.test_samples, member.classes) == (30, 10, 10)
    assert member.problem == ""
    assert member.memory_mib is not None
    run.ask(mlp_artefact)
    report = run.answer()
    expected = train(
        Session(mlp_artefact.model), load_device_data(str(data)), request(mlp_artefact)
    )
    assert report.failure is None
    assert report.weights is not None
    assert (report.weights == expected.weights).all()
    assert report.peak_memory_mib is not None
    assert device.end() == 0
    assert run.grid.get_node_ids() == []
    assert "Traceback" not in device.log


def test_a_device_killed_in_a_round_comes_back_at_once_and_owns_up(
    superlink: SuperLink, start: Start, mlp_artefact: Artefact
) -> None:
    device = start("cellar")
    device.until("connected")
    run = Coordinator(superlink)
    (node,) = run.grid.get_node_ids()
    run.ask(mlp_artefact)
    assert run.answer().failure is None
    run.ask(mlp_artefact, trial=1, local_epochs=LONG)
    device.until("working")
    assert device.end(signal.SIGKILL) == -signal.SIGKILL
    device.start()
    device.until("connected")
    report = run.answer()
    assert (report.trial, report.round, report.failure) == (1, 3, "error")
    assert report.detail == "interrupted: its process was killed"
    assert "does not accept it" not in device.log
    # The same node, and it still holds the artefact, which travelled only once.
    assert run.grid.get_node_ids() == [node]
    run.ask(mlp_artefact, trial=2)
    assert run.answer().failure is None
    assert "artefact_missing" not in device.log


def test_a_device_that_the_kernel_kills_for_memory_reports_just_that(
    superlink: SuperLink, start: Start, small_board: Path, mlp_artefact: Artefact
) -> None:
    device = start("shed")
    (device.folder / "hungry.py").write_text(HUNGRY)
    (small_board / "cgroup.procs").write_text(str(device.process.pid))
    device.until("connected")
    run = Coordinator(superlink)
    evaluate = EvaluateRequest(
        trial=7, round=1, artefact=mlp_artefact.manifest.artefact_sha256,
        weights=mlp_artefact.initial_weights, metric="hungry:metric",
    )  # fmt: skip
    run.fleet.members()
    run.fleet.send([Addressed(0, evaluate, mlp_artefact.model)])
    assert device.process.wait(120) == -signal.SIGKILL
    device.start()
    (reply,) = wait_for(lambda: run.fleet.receive(1.0))
    assert (reply.report.trial, reply.report.failure) == (7, "out_of_memory")
    wait_for(
        lambda: device.log.count("was interrupted: out of memory") == 1
    )  # said after it is sent
    run.ask(mlp_artefact)
    assert run.answer().failure is None
    device.clean_up()


def test_a_device_that_is_stopped_while_it_works_says_so_and_ends_at_once(
    superlink: SuperLink, start: Start, mlp_artefact: Artefact
) -> None:
    device = start("attic")
    device.until("connected")
    run = Coordinator(superlink)
    run.ask(mlp_artefact, local_epochs=LONG)
    device.until("working")
    device.process.terminate()
    report = run.answer()
    # As Flower has it where a node is not there: a study waits for it and asks again.
    assert (report.failure, report.detail) == ("error", "Flower error 5: the device was stopped")
    assert device.process.wait(30) == 0
    assert run.grid.get_node_ids() == []


def test_data_that_cannot_be_used_is_a_sentence_at_the_coordinator(
    superlink: SuperLink, start: Start, tmp_path: Path
) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    device = start("porch", str(samples))
    device.until("connected")
    run = Coordinator(superlink)
    (member,) = run.fleet.members()
    assert "contains no data" in member.problem
    assert member.train_samples == 0
    assert "cannot take part" in device.log
    # Mended while it runs, but not for good: labels that the task does not have.
    np.savez(samples / "a.npz", x=np.ones((9, 8, 8, 1), np.float32), y=np.arange(9) + 50)
    (samples / "data.toml").write_text("classes = 10\n")
    (member,) = Coordinator(superlink).fleet.members()
    assert "in a task of 10 classes: they must be 0..9" in member.problem


def test_samples_of_another_shape_than_the_models_are_a_sentence_at_the_coordinator(
    superlink: SuperLink, start: Start, tmp_path: Path, mlp_artefact: Artefact
) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((40, 4, 8, 1), np.float32), y=np.arange(40) % 10)
    device = start("fence", str(tmp_path))
    device.until("connected")
    run = Coordinator(superlink)
    run.ask(mlp_artefact)
    report = run.answer()
    assert report.failure == "bad_data"
    assert "shape" in report.detail
    wait_for(lambda: "refused, bad_data" in device.log)


def test_a_second_device_with_the_same_key_waits_and_the_first_goes_on(
    superlink: SuperLink, start: Start, tmp_path: Path, data: Path, mlp_artefact: Artefact
) -> None:
    first = start("garden")
    first.until("connected")
    second = Device(tmp_path / "copy", first.bundle, str(data))
    second.start()
    try:
        wait_for(lambda: second.status["detail"])
        assert second.status["state"] == "connecting"
        run = Coordinator(superlink)
        run.ask(mlp_artefact)
        assert run.answer().failure is None
        assert second.log.count("does not accept it yet") == 1
        assert first.end() == 0
        second.until("connected")  # its key is free now
    finally:
        second.clean_up()


def test_a_device_whose_key_nobody_knows_waits_and_says_so_once(
    superlink: SuperLink, tmp_path: Path, data: Path
) -> None:
    device = Device(tmp_path / "stranger", superlink.bundle("stranger"), str(data))
    device.start()
    try:
        wait_for(lambda: device.status["detail"])
        time.sleep(3)
        assert device.status["state"] == "connecting"
        assert device.log.count("not connected") == 1
        assert device.end() == 0
    finally:
        device.clean_up()


def test_a_superlink_that_dies_and_comes_back_loses_nothing(
    superlink: SuperLink, start: Start, mlp_artefact: Artefact
) -> None:
    device = start("roof")
    device.until("connected")
    run = Coordinator(superlink)
    run.ask(mlp_artefact, local_epochs=20_000)
    device.until("working")
    with run.grid.beating():
        superlink.kill()
        wait_for(lambda: "waits for the connection" in device.log)  # it is done, with an answer
        superlink.start()
        wait_for(lambda: "got through" in device.log or "is dropped" in device.log)
    assert "got through" in device.log
    assert run.answer().failure is None
    assert device.log.count("waits for the connection") == 1
    run.ask(mlp_artefact, trial=1)
    assert run.answer().failure is None
    assert device.end() == 0


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with filled(tmp_path / "full") as folder:
        yield folder


def test_a_device_whose_disk_is_full_trains_from_memory_and_says_so_once(
    superlink: SuperLink, tmp_path: Path, data: Path, full_disk: Path, mlp_artefact: Artefact
) -> None:
    device = Device(tmp_path / "cellar", superlink.enroll("full"), str(data), keeps=full_disk)
    device.start()
    try:
        wait_for(lambda: "connected to" in device.log)
        run = Coordinator(superlink)
        for trial in range(2):
            run.ask(mlp_artefact, trial=trial)
            assert run.answer().failure is None
        assert device.log.count("an artefact cannot be cached: No space left on device") == 1
        # Started again it holds nothing, says so, and is sent it once more.
        assert device.end() == 0
        device.start()
        wait_for(lambda: device.log.count("connected to") == 2)
        run.ask(mlp_artefact, trial=2)
        assert run.answer().failure is None
        assert device.log.count("artefact_missing") == 1
        assert "Traceback" not in device.log
        assert device.end() == 0
    finally:
        device.clean_up()


def test_looks_for_messages_are_a_second_apart_at_most_in_a_study_and_rare_after_it() -> None:
    silences = np.linspace(0.0, 119.0, 500)
    pauses = [poll_interval_s(silence) for silence in silences]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1], poll_interval_s(121.0)) == (0.05, 1.0, 2.0)
    assert all(
        pause <= max(0.05, silence / 5) for pause, silence in zip(pauses, silences, strict=True)
    )
