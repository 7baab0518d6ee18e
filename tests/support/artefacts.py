"""Artefacts that the compiler made once and the repository keeps, for tests without TensorFlow.

``tests/record_artefacts.py`` writes them, and ``server/compiler/test_recorded.py`` compares them
with what the compiler makes today.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np

import fieldtune.client.service
from fieldtune.server.compiler.cache import ArtefactCache, artefact_from_frame, artefact_to_frame
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.processes.child import unpack_frame

FOLDER = Path(__file__).parents[1] / "data/artefacts"
CHECK = Path(fieldtune.client.service.__file__).with_name("check")
"""The artefact that ``fieldtune client doctor`` trains a step of, and the weights after it."""
CHECKED = ModelSpec("cnn", {"width": 4}, (8, 8, 1), 4)
"""What it is of: convolution, pooling and dense layers, and momentum."""
MLP = "mlp-16"
DIGITS = (8, 8, 1)
RECORDED = {
    MLP: ModelSpec("mlp", {"width": 16, "depth": 1}, DIGITS, 10),
    **{f"mlp-{width}": ModelSpec("mlp", {"width": width}, DIGITS, 10) for width in (8, 32, 1024)},
}
"""What is recorded. Only the first is trained: the weights of the others are kept as zeros."""


def read(name: str) -> Artefact:
    """A recorded artefact."""
    frame = gzip.decompress((FOLDER / f"{name}.bin.gz").read_bytes())
    return artefact_from_frame(*unpack_frame(frame))


def write(name: str, artefact: Artefact) -> None:
    """Record an artefact; the same one gives the same bytes."""
    if name != MLP:
        artefact = replace(artefact, initial_weights=np.zeros_like(artefact.initial_weights))
    FOLDER.mkdir(parents=True, exist_ok=True)
    frame = gzip.compress(artefact_to_frame(artefact), mtime=0)
    (FOLDER / f"{name}.bin.gz").write_bytes(frame)


def recorded_cache(folder: Path) -> ArtefactCache:
    """A cache in a new folder that holds all recorded artefacts, as if compiled by this version."""
    cache = ArtefactCache(folder)
    for name, spec in RECORDED.items():
        cache.put(spec, read(name))
    return cache
