"""Run artefacts in the TFLite runtime of this environment and write down what they compute.

usage: python replay.py FOLDER OUT

Needs numpy and a runtime, nothing else, so that two runtimes can be compared by running it in two
environments. FOLDER holds pairs ``NAME.tflite`` and ``NAME.tflite.npy`` (initial weights); OUT gets
``NAME.npz``: losses, gradients, optimizer state, weights and logits of five steps, each begun from
weights that do not depend on what the runtime computed before.
"""

import sys
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

FIXED = {"x", "y", "sample_weight", "apply"}
VALUES = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "rho": 0.9,
    "epsilon": 1e-3,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "proximal": 0.1,
    "seed": 7.0,
}


def random_like(details, rng, classes):
    shape = tuple(details["shape"])
    if np.issubdtype(details["dtype"], np.integer):
        return rng.integers(0, classes, shape).astype(details["dtype"])
    return rng.random(shape).astype(np.float32)


def replay(model: bytes, initial: np.ndarray, noise: float = 0.0) -> dict[str, np.ndarray]:
    """Everything that five steps of an artefact compute; ``noise`` moves weights, relatively."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    names = ("train", "evaluate", "infer", "load", "weights", "reset", "state")
    run = {name: interpreter.get_signature_runner(name) for name in names}
    inputs = run["train"].get_input_details()
    layout = sorted(run["load"].get_input_details().items())
    scalars = {name: np.full(1, VALUES[name], np.float32) for name in inputs if name not in FIXED}
    size = inputs["x"]["shape"][0]
    rng, found = np.random.default_rng(0), {}
    for step in range(5):
        # A hundredth of noise: other weights each time, near those that the model was made with.
        flat = initial * rng.normal(1.0, 0.01, initial.shape).astype(np.float32)
        if noise:
            moved = np.random.default_rng(1).choice([-1.0, 1.0], flat.shape)
            flat = (flat * (1 + noise * moved)).astype(np.float32)
        tensors, at = {}, 0
        for name, details in layout:
            count = int(np.prod(details["shape"]))
            tensors[name] = flat[at : at + count].reshape(details["shape"])
            at += count
        run["load"](**tensors)
        logits = run["infer"](x=random_like(inputs["x"], rng, 2))["logits"]
        found[f"{step} logits"] = logits
        for apply in (0.0, 1.0):
            weight = np.full(size, 1 / (2 * size), np.float32)
            weight[size - step % size :] *= apply  # the second batch is short by `step` samples
            out = run["train"](
                x=random_like(inputs["x"], rng, 2),
                y=random_like(inputs["y"], rng, logits.shape[-1]),
                sample_weight=weight,
                apply=np.full(1, apply, np.float32),
                **scalars,
            )
            found[f"{step} loss {apply}"] = out["loss"]
            for slot, value in run["state"]().items():
                found[f"{step} {slot} {apply}"] = value
        for name, value in run["weights"]().items():
            found[f"{step} {name}"] = value
    return found


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    for file in sorted(folder.glob("*.tflite")):
        np.savez(out / f"{file.stem}.npz", **replay(file.read_bytes(), np.load(f"{file}.npy")))


if __name__ == "__main__":
    main()
