"""The compile process: answers requests of its parent until the connection is closed."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any

import numpy as np

from fieldtune.profiles.common.errors import CompileError
from fieldtune.profiles.common.imports import uncollected, without
from fieldtune.server.compiler import runtime_memory
from fieldtune.server.compiler.cache import artefact_to_frame
from fieldtune.server.compiler.manifest import ModelSpec
from fieldtune.server.processes.child import (
    end_with_parent,
    pack_frame,
    parent_connection,
    unpack_frame,
)


def main(argv: list[str]) -> int:
    """Serve requests until the parent closes the connection."""
    connection = parent_connection(argv)
    sys.path[:0] = filter(None, os.environ.get("FIELDTUNE_IMPORT_PATH", "").split(os.pathsep))
    runtime_memory.start()
    _import_tensorflow()
    importlib.import_module("fieldtune.server.compiler.conversion_process").start()
    end_with_parent(connection)
    while True:
        try:
            header, blobs = unpack_frame(connection.recv_bytes())
        except (EOFError, OSError):
            return 0
        answer = _answer(header, blobs)
        try:
            connection.send_bytes(answer)
        except OSError:
            return 0
        _forget()


def _answer(header: dict[str, Any], blobs: list[bytes]) -> bytes:
    from fieldtune.server.compiler.bounds import OUT_OF_MEMORY, bound_process
    from fieldtune.server.compiler.build import compile_spec, export_spec

    spec = ModelSpec.from_json(header["spec"])
    bound_process()
    try:
        if header["do"] == "compile":
            return artefact_to_frame(compile_spec(spec))
        weights = np.frombuffer(blobs[0], "<f4")
        calibration = None
        if len(blobs) > 1:
            calibration = np.frombuffer(blobs[1], "<f4").reshape(-1, *spec.input_shape)
        return pack_frame({}, export_spec(spec, weights, header["names"], calibration))
    except CompileError as refused:
        return pack_frame({"error": str(refused)})
    except OUT_OF_MEMORY:
        return pack_frame(
            {
                "error": f"model {spec.model!r} with {dict(spec.knobs)} takes more memory to "
                "compile than is free: choose smaller values, or compile on a machine with more "
                "memory"
            }
        )
    except Exception as bug:
        import traceback

        traceback.print_exc()
        return pack_frame(
            {"error": f"compiling {spec.model!r} failed: {type(bug).__name__}: {bug}"}
        )


def _import_tensorflow() -> None:
    # Each takes up to half a second to import, for arguments that no model here has.
    with uncollected(), without("sklearn", "pandas", "scipy"):
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
        importlib.import_module("fieldtune.server.compiler.build")
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    # A model's graphs are collected after its answer: collecting earlier takes a tenth more time.
    gc.disable()


def _forget() -> None:
    """Free the memory of the last model."""
    importlib.import_module("keras").backend.clear_session()
    importlib.import_module("fieldtune.server.compiler.gradients.registry").forget_graphs()
    gc.collect()
    importlib.import_module("fieldtune.server.compiler.conversion_process").hand_back()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
