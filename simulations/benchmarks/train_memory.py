"""Peak memory of a process that trains, with numpy, the runtime and the artefact in it and no more.

usage: python simulations/benchmarks/train_memory.py [MODEL ...]

Each model is compiled here and trained for ten steps at micro-batch 8 in a fresh process, which
reads its own high-water mark (VmHWM, proc(5)). Beside it stand the same process before it opened
the model, and what the manifest says the runtime allocates for training.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import ModelSpec
from fieldtune.server.compiler.service import CompileService

SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "mlp": ((8, 8, 1), 10),
    "ds_cnn": ((49, 10, 1), 12),
    "resnet8": ((32, 32, 3), 10),
    "mobilenet": ((96, 96, 3), 2),
}

TRAIN = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

def mib(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) / 1024

before = mib("VmHWM:")
interpreter = Interpreter(sys.argv[1], num_threads=1)
load, train = (interpreter.get_signature_runner(name) for name in ("load", "train"))
flat, at, tensors = np.load(sys.argv[2]), 0, {}
for name, details in sorted(load.get_input_details().items()):
    size = int(np.prod(details["shape"]))
    tensors[name] = flat[at:at + size].reshape(details["shape"])
    at += size
load(**tensors)
inputs = {n: np.full(d["shape"], 0.01, d["dtype"]) for n, d in train.get_input_details().items()}
for _ in range(10):
    train(**inputs)
print(before, mib("VmHWM:"))
"""


def main() -> None:
    """Print the table."""
    table = Table("model", "before, MiB", "peak, MiB", "manifest's training memory, MiB")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with CompileService(ArtefactCache(folder / "cache")) as service:
            for name in sys.argv[1:] or SHAPES:
                artefact = service.submit(ModelSpec(name, {}, *SHAPES[name])).result()
                (folder / "model.tflite").write_bytes(artefact.model)
                np.save(folder / "weights.npy", artefact.initial_weights)
                told = subprocess.run(
                    [sys.executable, "-c", TRAIN, folder / "model.tflite", folder / "weights.npy"],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                before, peak = told.stdout.split()
                said = artefact.manifest.train_arena_bytes / 2**20
                table.add_row(name, f"{float(before):.1f}", f"{float(peak):.1f}", f"{said:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
