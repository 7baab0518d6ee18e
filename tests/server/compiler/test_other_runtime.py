"""The older runtime, in an environment of its own, computes what the installed one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from replay import replay
from strategies import drawn

from fieldtune.server.compiler.manifest import ModelSpec
from fieldtune.server.compiler.service import CompileService

HERE = Path(__file__).parent
TOLERANCE = 1e-4
LIMIT = 0.05
SPECS = {
    "mlp": ModelSpec("mlp", {}, (8, 8, 1), 10),
    "cnn": ModelSpec("cnn", {}, (8, 8, 1), 10),
    "ds_cnn": ModelSpec("ds_cnn", {}, (16, 16, 1), 10),
    "gru": ModelSpec("gru", {}, (8, 8), 10),
    "transformer": ModelSpec("transformer", {}, (8, 8), 10),
    **{f"drawn {number}": drawn(number) for number in (1, 4, 9, 23, 31, 37)},
}


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.version_info >= (3, 12):
        pytest.skip("NOT CHECKED: tflite-runtime 2.14 has wheels for Python 3.11 at most")
    folder = tmp_path_factory.mktemp("tflite-runtime")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check",
         "tflite-runtime==2.14.0", "numpy==1.26.4"],
        check=True,
    )  # fmt: skip
    return folder / "bin/python"


def test_both_runtimes_agree_on_losses_gradients_states_weights_and_logits(
    compiler: CompileService, other_python: Path, tmp_path: Path
) -> None:
    models, out = tmp_path / "models", tmp_path / "out"
    models.mkdir()
    out.mkdir()
    artefacts = {name: compiler.submit(spec).result() for name, spec in SPECS.items()}
    for name, artefact in artefacts.items():
        (models / f"{name}.tflite").write_bytes(artefact.model)
        np.save(models / f"{name}.tflite.npy", artefact.initial_weights)
    subprocess.run([other_python, HERE / "replay.py", models, out], check=True)
    for name, artefact in artefacts.items():
        ours = replay(artefact.model, artefact.initial_weights)
        theirs = dict(np.load(out / f"{name}.npz"))
        error = worst_difference(ours, theirs)
        if error > TOLERANCE:
            # A ReLU within rounding of its kink falls on either side: one runtime alone moves as
            # much when its weights move in their last bits.
            moved = replay(artefact.model, artefact.initial_weights, noise=1e-6)
            assert error <= min(10 * worst_difference(ours, moved), LIMIT), name


def worst_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The largest difference, relative to its tensor or a tenth of the largest of its kind.

    A bias in front of a batch normalisation has no gradient but rounding noise.
    """
    assert ours.keys() == theirs.keys()

    def kind(name: str) -> tuple[str, str]:
        step, what = name.split()[:2]
        return step, "weight" if what.startswith("w") and what[1:].isdigit() else what

    largest: dict[tuple[str, str], float] = {}
    for name, value in ours.items():
        size = float(np.abs(value).max(initial=0.0))
        largest[kind(name)] = max(largest.get(kind(name), 0.0), size)
    return max(
        float(np.abs(value - theirs[name]).max(initial=0.0))
        / max(float(np.abs(value).max(initial=0.0)), 0.1 * largest[kind(name)], 1e-3)
        for name, value in ours.items()
    )
