"""Artefacts in the older runtime, in an environment of its own, beside the installed one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from replay import replay

from fieldtune.server.compiler.manifest import Artefact

TOLERANCE = 1e-4
LIMIT = 0.05
HERE = Path(__file__).parent


def other_environment(folder: Path) -> Path:
    """The Python of a new environment with tflite-runtime, the last one that there is."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check",
         "tflite-runtime==2.14.0", "numpy==1.26.4"],
        check=True,
    )  # fmt: skip
    return folder / "bin/python"


def disagreements(
    artefacts: Mapping[str, Artefact], other_python: Path, folder: Path
) -> dict[str, float]:
    """Artefacts that the two runtimes do not compute alike, and by how much they differ."""
    models, out = folder / "models", folder / "out"
    models.mkdir()
    out.mkdir()
    for name, artefact in artefacts.items():
        (models / f"{name}.tflite").write_bytes(artefact.model)
        np.save(models / f"{name}.tflite.npy", artefact.initial_weights)
    subprocess.run([other_python, HERE / "replay.py", models, out], check=True)
    found = {}
    for name, artefact in artefacts.items():
        ours = replay(artefact.model, artefact.initial_weights)
        theirs = dict(np.load(out / f"{name}.npz"))
        error = worst_difference(ours, theirs)
        if error > TOLERANCE:
            # A ReLU within rounding of its kink falls on either side: one runtime alone moves as
            # much when its weights move in their last bits.
            moved = replay(artefact.model, artefact.initial_weights, noise=1e-6)
            if error > min(10 * worst_difference(ours, moved), LIMIT):
                found[name] = error
    return found


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
