"""The compiler's gate on another machine: its batches, and what TensorFlow computes of them.

``python gate.py record FOLDER`` compiles a few models, makes the gate's calls of each and writes
down every batch, and TensorFlow's loss, optimizer state and weights after it; that needs the
compiler. ``python gate.py replay FOLDER`` makes the same calls in the TFLite runtime that is
installed and prints, as JSON, each model's largest error, relative to the largest entry of its
tensor, or for weights to at least a tenth of the largest of all, as in the gate. It needs numpy and
a runtime alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {
    "cnn": ("cnn", {}, (8, 8, 1)),
    "ds_cnn": ("ds_cnn", {"depth": 1}, (16, 16, 1)),
    "gru": ("gru", {}, (8, 8)),
}
CLASSES = 10
Recorded = dict[str, np.ndarray]


def runners(model: bytes) -> dict[str, Any]:
    """The signatures of an artefact."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_content=model, num_threads=1)
    names = ("train", "load", "weights", "state", "infer")
    return {name: interpreter.get_signature_runner(name) for name in names}


def found(run: dict[str, Any], recorded: Recorded) -> Recorded:
    """What the runtime computes of the recorded calls, from the recorded weights."""
    h = {name[2:]: value for name, value in recorded.items() if name.startswith("h ")}
    run["load"](**{name[6:]: v for name, v in recorded.items() if name.startswith("start ")})
    after: Recorded = {}
    for call in range(int(recorded["calls"][0])):
        batch = {key: recorded[f"{call} {key}"] for key in ("x", "y", "sample_weight", "apply")}
        after[f"{call} loss"] = run["train"](**batch, **h)["loss"][:1]
        after |= {f"{call} state {slot}": value for slot, value in run["state"]().items()}
        after |= {f"{call} weight {name}": value for name, value in run["weights"]().items()}
    after["logits"] = run["infer"](x=recorded["0 x"])["logits"]
    return after


def worst_error(expected: Recorded, given: Recorded) -> float:
    """The largest error of all that was compared."""
    compared = {name: value for name, value in expected.items() if name in given}
    assert len(compared) > 4 * int(expected["calls"][0])
    sizes = {name: float(np.abs(value).max(initial=0.0)) for name, value in compared.items()}

    def scale(name: str) -> float:
        call, _, what = name.partition(" ")
        if not what.startswith("weight"):
            return sizes[name]
        others = [size for other, size in sizes.items() if other.startswith(f"{call} weight")]
        return max(sizes[name], 0.1 * max(others))

    errors = [
        float(np.abs(value - given[name]).max(initial=0.0)) / max(scale(name), 1e-6)
        for name, value in compared.items()
    ]
    assert np.isfinite(errors).all()
    return max(errors)


def record(folder: Path) -> None:
    """Compile the models and write down what TensorFlow computes."""
    from fieldtune.server.compiler.build import build_model, compile_model
    from fieldtune.server.compiler.manifest import ModelSpec
    from fieldtune.server.compiler.probe import PROBE_VALUES, batches
    from fieldtune.server.compiler.reference import Reference
    from fieldtune.server.compiler.training import Layout

    for name, (model, knobs, shape) in MODELS.items():
        spec = ModelSpec(model, knobs, shape, CLASSES)
        built = build_model(spec)
        artefact, layout = compile_model(built, spec.options), Layout(built)
        hyperparameters = artefact.manifest.hyperparameters
        h = {each: PROBE_VALUES[each] for each in hyperparameters}
        start = {f"w{n:03d}": v.numpy() for n, v in enumerate(layout.variables)}
        run = runners(artefact.model)
        run["load"](**start)
        reference = Reference(layout, spec.options, h)
        calls = batches(layout, spec.options, 0)
        kept: Recorded = {"calls": np.array([len(calls)])}
        kept |= {f"start {key}": value for key, value in start.items()}
        kept |= {f"h {key}": np.full(1, value, np.float32) for key, value in h.items()}
        for number, batch in enumerate(calls):
            # As the gate does, TensorFlow goes on from the artefact's own numbers.
            weights = run["weights"]()
            reference.take([weights[key] for key in sorted(weights)], run["state"](), number)
            given = {
                "x": batch.x,
                "y": batch.y,
                "sample_weight": batch.weight,
                "apply": np.full(1, batch.apply, np.float32),
            }
            run["train"](**given, **{key: np.full(1, h[key], np.float32) for key in h})
            loss, state, after = reference.call(batch)
            kept |= {f"{number} {key}": value for key, value in given.items()}
            kept[f"{number} loss"] = np.full(1, loss, np.float32)
            kept |= {f"{number} state {slot}": value for slot, value in state.items()}
            kept |= {f"{number} weight w{n:03d}": value for n, value in enumerate(after)}
        weights = run["weights"]()
        reference.take([weights[key] for key in sorted(weights)], run["state"](), 0)
        kept["logits"] = reference.evaluate(calls[0])[1]
        (folder / f"{name}.tflite").write_bytes(artefact.model)
        np.savez(folder / f"{name}.npz", **kept)


def replay(folder: Path) -> dict[str, float]:
    """Model -> its largest error in the runtime of this environment."""
    errors = {}
    for name in MODELS:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            recorded = dict(file)
        run = runners((folder / f"{name}.tflite").read_bytes())
        errors[name] = worst_error(recorded, found(run, recorded))
    return errors


def main() -> None:
    """Record or replay."""
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]))
    else:
        sys.stdout.write(json.dumps(replay(Path(sys.argv[2]))))


if __name__ == "__main__":
    main()
