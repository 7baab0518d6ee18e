"""The compile service: compiles models in a child process, the only one that imports TensorFlow.

The child is started by :meth:`CompileService.start`, or for the first artefact that is not in the
cache. It compiles one model at a time; further requests are queued, and equal specs share one
future.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import CompileError, MissingExtraError
from fieldtune.server.compiler.cache import ArtefactCache, artefact_from_frame
from fieldtune.server.compiler.manifest import Artefact, ModelSpec, Variant
from fieldtune.server.processes.child import Child, Spawn, pack_frame, tail, unpack_frame

WORKER = "fieldtune.server.compiler.worker"
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    # oneDNN picks its kernels by the machine: the same seed must give the same model.
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "",
}

_ELSEWHERE = 2
"""How many times a model is compiled again if the process ended on another machine."""


@dataclass(frozen=True)
class _Job:
    """One request to the child; ``finish`` turns the answer into the future's result."""

    header: dict[str, Any]
    blobs: tuple[bytes, ...]
    finish: Callable[[dict[str, Any], list[bytes]], Any]
    future: Future[Any]
    what: str
    """For people."""


class CompileService:
    """Compiles models in a child process and keeps the results.

    Args:
        cache: where artefacts are kept.
        import_path: folders put before ``sys.path`` for a user's own models.
        log: file for the child's output; its last lines are quoted when the child dies.
        spawn: starts the child; None: on this machine.
    """

    def __init__(
        self,
        cache: ArtefactCache,
        import_path: Sequence[str] = (),
        log: Path | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        self.cache = cache
        self.import_path = list(import_path)
        self.busy_s = 0.0
        self.on_progress: Callable[[str], None] = lambda sentence: None
        """Is told, in the service's own thread, what is worked on; empty when all is done."""
        self._asked = self._begun = 0
        self._log, self._spawn = log, spawn
        self._log_file: IO[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: Child | None = None
        self._lock = threading.Lock()
        self._shared: dict[str, Future[Artefact]] = {}
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self) -> None:
        """Start the child before anything is asked of it: it imports TensorFlow for seconds."""
        with suppress(Exception):  # it is raised again by what is asked first
            self._running_child()

    def submit(self, spec: ModelSpec) -> Future[Artefact]:
        """The artefact of a spec, from the cache or compiled.

        The future raises CompileError where the model cannot be compiled, fails verification, or
        the child dies; StorageError where the cache cannot be written; MissingExtraError where
        TensorFlow is not installed.
        """
        future: Future[Artefact] = Future()
        try:
            key = self.cache.key(spec, self.import_path)
        except CompileError as unknown:
            future.set_exception(unknown)
            return future
        with self._lock:
            if key in self._shared:
                return self._shared[key]
            kept = self.cache.get(spec, self.import_path)
            if kept is not None:
                future.set_result(kept)
                return future
            self._shared[key] = future

        def finish(header: dict[str, Any], blobs: list[bytes]) -> Artefact:
            # Another process may have stored the artefact meanwhile: all use the same one.
            if (kept := self.cache.get(spec, self.import_path)) is not None:
                return kept
            artefact = artefact_from_frame(header, blobs)
            self.cache.put(spec, artefact, self.import_path)
            return artefact

        future.add_done_callback(lambda _: self._shared.pop(key, None))
        self._put(_Job({"do": "compile", "spec": spec.to_json()}, (), finish, future,
                       f"compiling {_shown(spec)}"))  # fmt: skip
        return future

    def variants(
        self,
        spec: ModelSpec,
        flat_weights: NDArray[np.float32],
        names: Sequence[Variant] = ("fp32",),
        calibration: NDArray[np.float32] | None = None,
    ) -> Future[dict[Variant, bytes]]:
        """Deployable ``.tflite`` files of a spec with these weights, by name.

        Args:
            spec: the model.
            flat_weights: float32 ``[parameters]`` in manifest order.
            names: of fp32, fp16, dynamic (int8 weights) and int8 (all integer).
            calibration: float32 ``[n, *input_shape]``, samples for the value ranges of int8.
        """
        future: Future[dict[Variant, bytes]] = Future()
        blobs = [np.ascontiguousarray(flat_weights, "<f4").tobytes()]
        if calibration is not None:
            blobs.append(np.ascontiguousarray(calibration, "<f4").tobytes())
        header = {"do": "export", "spec": spec.to_json(), "names": list(names)}
        self._put(_Job(header, tuple(blobs), lambda _, files: dict(zip(names, files, strict=True)),
                       future, f"exporting {_shown(spec)}"))  # fmt: skip
        return future

    def close(self) -> None:
        """Stop: cancel queued requests and kill the child."""
        with self._lock:
            self._closed = True
            thread = self._thread
            child = self._child
        if child is not None and child.process.poll() is None:
            # A conversion cannot be interrupted and its result is no longer wanted.
            child.process.kill()
        if thread is not None:
            self._jobs.put(None)
            thread.join()
        else:
            self._end()

    def __enter__(self) -> CompileService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                job.future.set_exception(CompileError("the compile service is closed"))
                return
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="fieldtune-compile", daemon=True
                )
                self._thread.start()
            self._asked += 1
            self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._closed:
                job.future.cancel()
            if not job.future.set_running_or_notify_cancel():
                continue
            started = time.perf_counter()
            self._begun += 1
            self.on_progress(f"{job.what}, {self._begun} of {self._asked}")
            try:
                job.future.set_result(self._ask(job))
            except Exception as failed:  # raised again by the future
                job.future.set_exception(failed)
            finally:
                self.busy_s += time.perf_counter() - started
                if self._begun == self._asked:
                    self.on_progress("")
        self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
        if self._log_file is not None:
            self._log_file.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _ask(self, job: _Job) -> Any:
        # On another machine, the process may have ended for a reason that is not the model's.
        for again in (*([True] * _ELSEWHERE if self._spawn else []), False):
            child = self._running_child()
            try:
                child.connection.send_bytes(pack_frame(job.header, job.blobs))
                header, blobs = unpack_frame(child.connection.recv_bytes())
                break
            except (EOFError, OSError) as died:
                self._child = None
                child.close()
                if again and not self._closed:
                    continue
                last = tail(self._log) if self._log is not None else ""
                raise CompileError(
                    f"the compile process {_ended(child.process.returncode)} while it worked on "
                    f"{job.header['spec']['model']!r} with {job.header['spec']['knobs']}; a new "
                    "one starts with the next model"
                    + (f". Its last output: {last}" if last else "")
                ) from died
        if "error" in header:
            raise CompileError(header["error"])
        return job.finish(header, blobs)

    def _running_child(self) -> Child:
        with self._lock:
            if self._child is not None and self._child.process.poll() is None:
                return self._child
            if self._closed:
                raise CompileError("the compile service is closed")
            for module in ("tensorflow", "keras", "ai_edge_litert"):
                if find_spec(module) is None:
                    raise MissingExtraError("compiling a model", "server", module)
            if self._log is not None and self._log_file is None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                self._log_file = self._log.open("ab")
            if self._scratch is None:
                # Removed with the service, even if the child is killed.
                self._scratch = tempfile.TemporaryDirectory(
                    prefix="fieldtune-", ignore_cleanup_errors=True
                )
            env = _ENVIRONMENT | {"TMPDIR": self._scratch.name}
            if self.import_path:
                env["FIELDTUNE_IMPORT_PATH"] = os.pathsep.join(self.import_path)
            log = self._log_file if self._log_file is not None else subprocess.DEVNULL
            self._child = (self._spawn or Child)(WORKER, log=log, env=env)
            return self._child


def _ended(status: int | None) -> str:
    """For people: how the process ended."""
    if status == -signal.SIGXCPU:
        return "was ended after ten minutes of processor time (choose smaller values)"
    if status in (-signal.SIGKILL, -signal.SIGABRT):
        return f"ended with status {status} (probably out of memory: choose smaller values)"
    return f"ended with status {status}"


def _shown(spec: ModelSpec) -> str:
    """``cnn width 32 depth 2``."""
    return " ".join([spec.model, *(f"{name} {value}" for name, value in spec.knobs.items())])
