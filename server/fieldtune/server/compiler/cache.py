"""A cache of artefacts on disk, so that each architecture is compiled once.

The key is a hash of everything that the artefact depends on: the spec, the versions of the
packages that made it, this compiler's own source and, for a user's model, the source of its
module and of the user's modules that it imports. Each entry is one file, written atomically:
processes may share a folder, and a crash leaves no incomplete entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from fieldtune.profiles.common.errors import StorageError
from fieldtune.profiles.common.files import write_atomically
from fieldtune.profiles.costmodel import tflite_work as work
from fieldtune.server.compiler.manifest import Artefact, Manifest, ModelSpec
from fieldtune.server.compiler.sources import source_hashes
from fieldtune.server.processes.child import pack_frame, unpack_frame

_LOG = logging.getLogger(__name__)
_READ_WORK = (
    "tflite_work", "tflite_reader", "tflite_graph", "flops", "kernel_loops", "cache_reuse",
    "xnnpack_delegate", "arena", "loop_counts",
)  # fmt: skip
"""Modules of the cost model that compute a manifest's work."""

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "numpy")


def default_folder() -> Path:
    """``$FIELDTUNE_CACHE``, or ``~/.cache/fieldtune``."""
    given = os.environ.get("FIELDTUNE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "fieldtune"


class ArtefactCache:
    """Artefacts on disk.

    Args:
        folder: where they are kept; made when the first one is put.
        import_path: where a user's modules are looked for before ``sys.path``.
    """

    def __init__(self, folder: Path | str | None = None, import_path: Sequence[str] = ()) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.import_path = list(import_path)

    def key(self, spec: ModelSpec, import_path: Sequence[str] = ()) -> str:
        """The content hash of a spec, 64 hexadecimal digits.

        Raises:
            CompileError: the module of a user's model is not found.
        """
        text: dict[str, object] = {
            "spec": spec.to_json(),
            "versions": package_versions(),
            "compiler": _compiler_hash(),
            "source": None,
        }
        if ":" in spec.model:
            own = [*import_path, *self.import_path]
            text["source"] = source_hashes(spec.model.partition(":")[0], own, sys.path)
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()

    def get(self, spec: ModelSpec, import_path: Sequence[str] = ()) -> Artefact | None:
        """The artefact of this spec, or ``None`` where it is not in the cache (or damaged)."""
        path = self._path(self.key(spec, import_path))
        try:
            frame = path.read_bytes()
        except OSError:
            return None
        try:
            return artefact_from_frame(*unpack_frame(frame))
        except (ValueError, KeyError, TypeError):
            _LOG.warning("%s is damaged: its model is compiled again", path)
            return None

    def put(self, spec: ModelSpec, artefact: Artefact, import_path: Sequence[str] = ()) -> None:
        """Store an artefact.

        Raises:
            StorageError: the file cannot be written.
        """
        path = self._path(self.key(spec, import_path))
        try:
            write_atomically(path, artefact_to_frame(artefact), parents=True)
        except OSError as failed:
            raise StorageError(
                f"the compiled model cannot be kept in {self.folder} ({failed.strerror}): free "
                "some space or set FIELDTUNE_CACHE to another folder"
            ) from failed

    def _path(self, key: str) -> Path:
        return self.folder / "artefacts" / key[:2] / f"{key}.bin"


def artefact_to_frame(artefact: Artefact) -> bytes:
    """An artefact as one frame of bytes."""
    weights = np.ascontiguousarray(artefact.initial_weights, "<f4")
    blobs = [artefact.model, weights.tobytes()]
    return pack_frame(
        {
            "manifest": artefact.manifest.model_dump(mode="json"),
            "weights_sha256": _sha256(blobs[1]),
        },
        blobs,
    )


def artefact_from_frame(header: dict[str, object], blobs: Sequence[bytes]) -> Artefact:
    """The artefact of a frame made by :func:`artefact_to_frame`.

    Raises:
        ValueError: the frame is damaged.
    """
    model, weights = blobs
    manifest = Manifest.model_validate(header["manifest"])
    if _sha256(model) != manifest.artefact_sha256:
        raise ValueError("the model is not the one that its manifest describes")
    if header.get("weights_sha256", _sha256(weights)) != _sha256(weights):
        raise ValueError("the initial weights are not those that were stored")
    return Artefact(model, np.frombuffer(weights, "<f4"), manifest)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def package_versions() -> dict[str, str]:
    """The versions of the packages that an artefact depends on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def _compiler_hash() -> str:
    """A hash of the source of the compiler and of the modules in ``_READ_WORK``."""
    digest = hashlib.sha256()
    compiler, costmodel = Path(__file__).parent, Path(work.__file__).parent
    reading = [costmodel / f"{name}.py" for name in _READ_WORK]
    for file in [*sorted(compiler.rglob("*.py")), *reading]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
