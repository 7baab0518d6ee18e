"""Compile what the repository keeps in compiled form, where tests or devices have no compiler.

usage: python tests/record_artefacts.py

Writes the artefacts in ``tests/data/artefacts``, which stand in for compiled ones in most tests,
and the one that ``fieldtune client doctor`` trains a step of, with the weights after that step.
Run it when the compiler makes something else, which ``tests/server/compiler/test_recorded.py``
tells.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from fieldtune.client.service import doctor
from fieldtune.client.training.runtime import Session
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from support.artefacts import CHECK, CHECKED, RECORDED, write


def main() -> None:
    """Write all files."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        CompileService(ArtefactCache(Path(scratch))) as service,
    ):
        for name, spec in RECORDED.items():
            write(name, service.submit(spec).result())
        model = service.submit(CHECKED).result().model
    CHECK.mkdir(exist_ok=True)
    (CHECK / "step.tflite").write_bytes(model)
    np.save(CHECK / "expected.npy", doctor.check_step(Session(model)))


if __name__ == "__main__":
    main()
