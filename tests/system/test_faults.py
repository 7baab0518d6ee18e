"""What may break while a study runs: it ends with all its trials, and each fault is one line."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fieldtune.server.devices import command as tune
from support.control_group import control_group
from support.deployment import Deployment, Program, add_devices, needs_nginx, wait_until, within
from support.recorded import recorded
from support.studies import digits
from system.faults import (
    AWAY,
    Fault,
    certificate_expired,
    device_killed,
    disk_full,
    network_cut,
    states,
    strangers_knock,
    study_killed,
    superlink_killed,
)

pytestmark = [pytest.mark.system, needs_nginx]
IN_TURN: tuple[tuple[Fault, float], ...] = (
    (device_killed, 0.5),
    (superlink_killed, 0.0),
    (study_killed, 0.0),
    (network_cut, 5.0),
    (strangers_knock, 0.0),
    (disk_full, 0.0),
    (certificate_expired, 0.0),
)
TRIALS = 2 * len(IN_TURN) + 4
"""So many that the study is still at work when the last fault comes."""
HUNGRY = """
def metric(y_true, logits):
    return len(b"x" * (512 << 20)) / (512 << 20), float(len(y_true))
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of its own with two devices."""
    folder = tmp_path_factory.mktemp("broken")
    made = Deployment(folder)
    made.init()
    add_devices(made, digits(folder, clients=2, trials=1, rounds=1))
    (folder / "hungry.py").write_text(HUNGRY)
    for name, device in made.devices.items():
        device.environment["PYTHONPATH"] = str(folder)
        with (made.folder / name / "data/data.toml").open("a") as owner:
            owner.write('\n[privacy]\nmetrics = ["accuracy", "hungry:metric"]\n')
    with made.running():
        yield made


def test_a_study_outlives_each_fault_and_counts_nothing_twice(
    broken: Deployment, tmp_path: Path
) -> None:
    file = digits(tmp_path, clients=2, trials=TRIALS, rounds=3)
    run, log = tmp_path / "run", tmp_path / "study.log"
    study = Program(("tune", file, "--superlink", broken.path, "--out", run), log)
    study.start()
    try:
        for number, (fault, wait_s) in enumerate(IN_TURN):
            wait_for_trial(study, 2 * number)
            study = fault(broken, study, wait_s)
        assert study.process is not None
        assert study.process.wait(300) == 0, study.said()
    finally:
        study.end()
    assert states(run) == ["completed"] * TRIALS
    said = study.said()
    # Once where it was killed, once where its certificate was renewed.
    assert said.count(AWAY) == 2
    assert said.count("SuperLink is back after") == 2
    assert said.count(f"Resuming {run}, which has ") == 1
    assert "Traceback" not in said
    device = broken.devices["pi-0"].said()
    assert device.count("was interrupted: its process was killed") <= 1  # none where it had no work
    assert "Traceback" not in device


def wait_for_trial(study: Program, number: int) -> None:
    """Until it has told of this trial or a later one: what it last said is lost with a study."""

    def told() -> bool:
        numbers = re.findall(r"^trial +(\d+): ", study.said(), re.MULTILINE)
        return max(map(int, numbers), default=-1) >= number or study.ended()

    wait_until(told, f"trial {number} never ended")


@contextmanager
def kept_alive(device: Program, group: Path) -> Iterator[None]:
    """Restart a device's client when it has ended, in its control group, as systemd does."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if device.ended():
                start()

    def start() -> None:
        device.start()
        assert device.process is not None
        (group / "cgroup.procs").write_text(str(device.process.pid))

    start()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        device.end()


def test_a_device_that_runs_out_of_memory_is_a_line_and_the_study_goes_on_without_it(
    broken: Deployment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = digits(tmp_path, clients=2, trials=1, rounds=1, least=2, metric="hungry:metric")
    device = broken.devices["pi-1"]
    device.end()
    with (
        control_group(256 * 10**6) as group,
        kept_alive(device, group),
        within(600),
        recorded(tune, "DeviceFleet") as seen,
    ):
        wait_until(lambda: "connected to" in device.said(), "pi-1 never connected")
        tune.tune_on_devices(file, tmp_path / "run", broken.path, trials=None, seed=None)
    assert states(tmp_path / "run") == ["completed"]
    failures = [(client, report.round, report.failure) for client, report in seen.reports]
    assert (1, 1, "out_of_memory") in failures
    assert all(failure is None for client, _, failure in failures if client == 0)
    said = capfd.readouterr().err
    line = "pi-1, trial 0 round 1: out_of_memory: interrupted: out of memory"
    assert said.splitlines().count(line) == 1
