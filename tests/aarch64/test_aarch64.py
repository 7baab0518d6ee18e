"""The client on aarch64, emulated: the same weights, its board recognised, a round over TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aarch64.guest import BASE, Guest, build_wheel, missing_means
from fieldtune.client.datafiles import load_device_data
from fieldtune.client.messages import TrainRequest
from fieldtune.client.runtime import Session
from fieldtune.client.trainer import train
from fieldtune.server.app import GridFleet
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.fleet import Addressed
from network.devices import Device
from network.superlink import DatabaseGrid, SuperLink

RUNTIMES = {
    "ai-edge-litert": BASE,
    # The other runtime, built against numpy 1, and what a training step needs beside it.
    "tflite-runtime": ["tflite-runtime==2.14.0", "numpy==1.26.4", "pydantic", "typer", "rich"],
}
TRAIN = """
from pathlib import Path
import numpy as np
from fieldtune.client.doctor import check_step
from fieldtune.client.runtime import Session, runtime_name
from fieldtune.profiles.detect import detect_profile
from fieldtune.profiles.probe import probe
weights = [check_step(Session(Path(file).read_bytes())) for file in sys.argv[2:]]
np.savez(sys.argv[1], *weights)
print(runtime_name(), detect_profile(probe()))
"""
GATE = Path(__file__).with_name("gate.py")
_WANTED = bool(os.environ.get("FIELDTUNE_AARCH64") or os.environ.get("CI"))
_LACKING = missing_means() or ("" if _WANTED else "FIELDTUNE_AARCH64=1 in the environment")
pytestmark = pytest.mark.skipif(bool(_LACKING), reason=f"NOT TESTED ON AARCH64: needs {_LACKING}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where guests are kept: a folder of the developer's choice, or this run's own."""
    kept = os.environ.get("FIELDTUNE_AARCH64_FOLDER")
    return Path(kept) if kept else tmp_path_factory.mktemp("aarch64")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=sorted(RUNTIMES))
def guest(request: pytest.FixtureRequest, folder: Path, wheel: Path) -> Guest:
    return Guest.build(folder, wheel, request.param, RUNTIMES[request.param])


def test_both_runtimes_train_to_the_weights_of_x86_64_and_know_their_board(
    guest: Guest, mlp_artefact: Artefact, tmp_path: Path
) -> None:
    from make_check import FOLDER

    files = [FOLDER / "step.tflite", tmp_path / "mlp.tflite"]
    files[1].write_bytes(mlp_artefact.model)
    done = subprocess.run(
        guest.command("-c", TRAIN, tmp_path / "weights.npz", *files),
        env=guest.environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert guest.site.name in done.stdout
    assert "raspberry-pi-zero-2w" in done.stdout
    from fieldtune.client.doctor import check_step

    with np.load(tmp_path / "weights.npz") as there:
        for name, file in zip(there.files, files, strict=True):
            here = check_step(Session(file.read_bytes()))
            np.testing.assert_allclose(there[name], here, atol=1e-5)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TensorFlow computes of the gate's batches, on this machine."""
    folder = tmp_path_factory.mktemp("gate")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, GATE, "record", folder],
        env=os.environ | quiet, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_the_gates_batches_come_out_there_as_tensorflow_has_them_here(
    guest: Guest, gate: Path
) -> None:
    done = subprocess.run(
        guest.command(GATE, "replay", gate),
        env=guest.environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    errors = json.loads(done.stdout)
    assert sorted(errors) == ["cnn", "ds_cnn", "gru"]
    assert all(0 < error <= 1e-4 for error in errors.values()), errors


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    running = SuperLink(tmp_path)
    running.start()
    yield running
    running.kill()


def test_an_emulated_device_takes_part_over_tls(
    folder: Path, wheel: Path, superlink: SuperLink, mlp_artefact: Artefact, tmp_path: Path
) -> None:
    guest = Guest.build(folder, wheel, "ai-edge-litert", RUNTIMES["ai-edge-litert"])
    (tmp_path / "data").mkdir()
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "data/a.npz", x=x, y=np.arange(40) % 10)
    device = Device(tmp_path / "device", superlink.enroll("emulated"), str(tmp_path / "data"))
    log = (device.folder / "log").open("wb")
    arguments = guest.command(
        "-m", "fieldtune.client", "run", device.folder / "device.bundle.toml",
        "--data", device.data,
    )  # fmt: skip
    process = subprocess.Popen(
        arguments, env=guest.environment | device.folders, stdout=log, stderr=log
    )
    device.processes.append(process)
    try:
        device.until("connected")
        fleet = GridFleet(DatabaseGrid(superlink))
        (member,) = fleet.members()
        assert (member.name, member.profile) == ("emulated", "raspberry-pi-zero-2w")
        assert member.board == "Raspberry Pi Zero 2 W Rev 1.0"
        assert member.memory_mib == 426.0
        request = TrainRequest(
            trial=0, round=0, artefact=mlp_artefact.manifest.artefact_sha256,
            weights=mlp_artefact.initial_weights, seed=1, batch_size=8, local_epochs=2,
            hyperparameter_names=("learning_rate", "momentum"), hyperparameter_values=(0.1, 0.9),
        )  # fmt: skip
        fleet.send([Addressed(0, request, mlp_artefact.model)])
        (reply,) = fleet.receive(120.0)
        expected = train(Session(mlp_artefact.model), load_device_data(device.data), request)
        assert reply.report.failure is None, json.dumps(reply.report.detail)
        np.testing.assert_allclose(reply.report.weights, expected.weights, atol=1e-5)
        assert device.end() == 0
    finally:
        device.clean_up()
        log.close()
