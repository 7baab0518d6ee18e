"""Make the small artefact that ``fieldtune client doctor`` trains a step of, and what comes of it.

usage: python tests/make_check.py     (then ``test_doctor.py`` holds it to the compiler)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from fieldtune.client.service import doctor
from fieldtune.client.training.runtime import Session
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.compiler.service import CompileService

FOLDER = Path(doctor.__file__).with_name("check")


def compiled(cache: Path) -> Artefact:
    """A small CNN: convolution, pooling and dense layers, and momentum."""
    spec = ModelSpec("cnn", {"width": 4}, (8, 8, 1), 4)
    with CompileService(ArtefactCache(cache)) as service:
        return service.submit(spec).result()


def main() -> None:
    """Write both files."""
    with tempfile.TemporaryDirectory() as scratch:
        artefact = compiled(Path(scratch))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "step.tflite").write_bytes(artefact.model)
    np.save(FOLDER / "expected.npy", doctor.check_step(Session(artefact.model)))


if __name__ == "__main__":
    main()
