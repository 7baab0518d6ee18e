"""The client on aarch64, emulated: the same weights, its board recognised, a round over TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune.client.training.runtime import Session
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.devices import command as tune
from support.artefacts import CHECK
from support.deployment import Deployment, add_devices, needs_nginx, within
from support.recorded import recorded
from support.studies import dealt_data, digits
from system.aarch64.guest import BASE, Guest, build_wheel, missing_means

RUNTIMES = {
    "ai-edge-litert": BASE,
    # The other runtime, built against numpy 1, and what a training step needs beside it.
    "tflite-runtime": [
        "tflite-runtime==2.14.0",
        "numpy==1.26.4",
        "pydantic",
        "typer",
        "rich",
        "tomli-w",
    ],
}
TRAIN = """
import sys
from pathlib import Path
import numpy as np
from fieldtune.client.service.doctor import check_step
from fieldtune.client.training.runtime import Session, runtime_name
from fieldtune.profiles.host.detect import detect_profile
from fieldtune.profiles.host.probe import probe
weights = [check_step(Session(Path(file).read_bytes())) for file in sys.argv[2:]]
np.savez(sys.argv[1], *weights)
print(runtime_name(), detect_profile(probe()))
"""
GATE = Path(__file__).with_name("gate.py")
_WANTED = bool(os.environ.get("FIELDTUNE_AARCH64") or os.environ.get("CI"))
_LACKING = missing_means() or ("" if _WANTED else "FIELDTUNE_AARCH64=1 in the environment")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(_LACKING), reason=f"NOT TESTED ON AARCH64: needs {_LACKING}"),
]


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
    files = [CHECK / "step.tflite", tmp_path / "mlp.tflite"]
    files[1].write_bytes(mlp_artefact.model)
    done = subprocess.run(
        guest.command("-c", TRAIN, tmp_path / "weights.npz", *files),
        env=guest.environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert guest.site.name in done.stdout
    assert "raspberry-pi-zero-2w" in done.stdout
    from fieldtune.client.service.doctor import check_step

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


@needs_nginx
def test_an_emulated_device_takes_part_in_a_study_beside_others(
    folder: Path, wheel: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    guest = Guest.build(folder, wheel, "ai-edge-litert", RUNTIMES["ai-edge-litert"])
    types = '"raspberry-pi-zero-2w" = 0.34, "raspberry-pi-5" = 0.66'
    study = digits(tmp_path, clients=3, trials=2, rounds=2, least=3, devices=types)
    dealt = dealt_data(study)
    (number,) = (n for n, (_, profile) in enumerate(dealt) if profile == "raspberry-pi-zero-2w")
    deployment = Deployment(tmp_path)
    deployment.init()
    add_devices(deployment, study)
    emulated = deployment.devices[f"pi-{number}"]
    emulated.command = guest.command("-m", "fieldtune.simulations")
    emulated.environment |= guest.environment
    # It says itself what it is, by its device tree.
    emulated.arguments = emulated.arguments[: emulated.arguments.index("--profile")]
    try:
        deployment.start()
        for device in deployment.devices.values():
            device.start()
        with within(900), recorded(tune, "DeviceFleet") as seen:
            tune.tune_on_devices(study, tmp_path / "run", deployment.path, trials=None, seed=None)
    finally:
        deployment.end()
    assert f"pi-{number} (raspberry-pi-zero-2w, " in capfd.readouterr().err
    assert {client for _, _, client in seen.trained} == {0, 1, 2}
    assert {report.failure for _, report in seen.reports} == {None}
    seen.check_training({n: data for n, (data, _) in enumerate(dealt)}, atol=1e-5)
    assert emulated.said().count("stopped") == 1
    assert "Traceback" not in emulated.said()
