"""Peak memory of inferring or training models, each in a fork of a process that is ready for it.

usage: python peak_memory.py infer|train FOLDER TINY_GRAPH NAME ...   prints MiB, a line a model

The high-water mark VmHWM is reset in the fork (``5`` to ``/proc/self/clear_refs``). A fork does not
inherit the pages of files that its parent had mapped, so what the model adds to the fork is added
to what the parent holds; the fork first runs a tiny graph, as its parent did, to map them again.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_TINY = b""


def infer(folder: Path, name: str) -> None:
    """Open a deployable variant and run it twice."""
    runner = Interpreter(
        model_path=str(folder / f"{name}.infer.tflite"), num_threads=1
    ).get_signature_runner()
    arguments = _zeros(runner.get_input_details())
    for _ in range(2):
        runner(**arguments)


def train(folder: Path, name: str) -> None:
    """Do what a client does in a round of one step: load weights, train, read weights."""
    from fieldtune.client.training.runtime import Session

    session = Session((folder / f"{name}.train.tflite").read_bytes())
    weights = np.full(session.weight_count, 0.05, np.float32)
    session.load(weights)
    size = session.micro_batch
    x = np.zeros((size, *session.input_shape), np.float32)
    details = session._train.inputs["y"]
    session.set_hyperparameters(dict.fromkeys(session.hyperparameters, 1e-6))
    for _ in range(2):
        session.train_step(
            x,
            np.zeros(details["shape"], details["dtype"]),
            np.full(size, 1 / size, np.float32),
            apply=True,
        )
    session.weights()


def _zeros(details: dict[str, Any]) -> dict[str, Any]:
    return {name: np.zeros(d["shape"], d["dtype"]) for name, d in details.items()}


def main(kind: str, folder: Path, names: list[str]) -> int:
    """Fork for each model."""
    if kind == "train":
        import_module("flwr.clientapp")
        import_module("fieldtune.client.training.runtime")
    _warm_up()
    held = _status_mib("VmRSS")
    for name in names:
        fork = os.fork()
        if fork == 0:
            _warm_up()
            before = _status_mib("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
            {"infer": infer, "train": train}[kind](folder, name)
            print(held + _status_mib("VmHWM") - before, flush=True)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]):
            print("nan", flush=True)
    return 0


def _warm_up() -> None:
    ready = Interpreter(model_content=_TINY, num_threads=1)
    ready.allocate_tensors()
    ready.invoke()


def _status_mib(key: str) -> float:
    found = re.search(rf"^{key}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status does not tell {key}")
    return int(found.group(1)) / 1024


if __name__ == "__main__":
    kind_, folder_, tiny, *names_ = sys.argv[1:]
    _TINY = Path(tiny).read_bytes()
    sys.exit(main(kind_, Path(folder_), names_))
