"""No artefact leaves the compiler before it agrees with TensorFlow in the runtime that will run it.

Conversion can give wrong numbers without an error, so five steps are run in the installed TFLite
runtime, over full, accumulated and short (zero-weight padded) batches, and compared with
:class:`~fieldtune.server.compiler.reference.Reference`: every loss, every gradient, every weight
after each step, the optimizer's state and the logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from fieldtune.profiles.errors import CompileError
from fieldtune.server.compiler.manifest import CompileOptions
from fieldtune.server.compiler.reference import Reference
from fieldtune.server.compiler.training import Layout

TOLERANCE = 1e-4
"""Largest error allowed, relative to the largest entry of a tensor."""

ATTEMPTS = 2
"""An input exactly at the kink of a ReLU may fall on either side, once: other data then decides."""

# Larger than a study would choose where that makes rounding matter less: with Adam's usual epsilon
# a gradient of pure rounding noise is scaled up to a full step.
_GATE_VALUES = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "beta_1": 0.8,
    "beta_2": 0.9,
    "epsilon": 1e-2,
    "rho": 0.8,
    "weight_decay": 0.02,
    "clip_norm": 0.5,
    "proximal": 0.3,
    "seed": 7.0,
}


@dataclass(frozen=True)
class _Batch:
    x: NDArray[np.float32]
    y: NDArray[Any]
    weight: NDArray[np.float32]
    apply: bool


def check(model: bytes, layout: Layout, options: CompileOptions) -> None:
    """Compare an artefact with TensorFlow.

    Args:
        model: the artefact.
        layout: the model it was made of, holding the weights to start from.
        options: as it was compiled.

    Raises:
        CompileError: they disagree; names the worst tensor.
    """
    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        for attempt in range(ATTEMPTS):
            name, error = _worst(interpreter, layout, options, attempt)
            if error <= TOLERANCE:
                return
    except (RuntimeError, ValueError) as refused:
        raise CompileError(
            f"model {layout.model.name!r}: the TFLite runtime cannot run the compiled model "
            f"({refused})"
        ) from refused
    raise CompileError(
        f"model {layout.model.name!r}: the compiled model does not train as TensorFlow does "
        f"({name} is off by {error:.1e} of its size, {TOLERANCE:.0e} is allowed); replace that "
        "layer or report the model"
    )


def _worst(
    interpreter: Any, layout: Layout, options: CompileOptions, attempt: int
) -> tuple[str, float]:
    runners = {
        name: interpreter.get_signature_runner(name)
        for name in ("train", "evaluate", "infer", "load", "weights", "reset", "state")
    }
    hyperparameters = options.hyperparameters + ("seed",) * layout.draws_random_numbers
    h = {name: _GATE_VALUES[name] for name in hyperparameters}
    scalars = {name: np.full(1, value, np.float32) for name, value in h.items()}
    reference = Reference(layout, options, h)
    start = [v.numpy() for v in layout.variables]
    runners["load"](**_named(start))
    errors = _Errors([spec.name for spec in layout.specs])
    errors.tensors("loaded weight", start, _values(runners["weights"]()))
    batches = _batches(layout, options, attempt)
    for step, batch in enumerate(batches):
        where = f"call {step + 1}"
        loss = runners["train"](
            x=batch.x,
            y=batch.y,
            sample_weight=batch.weight,
            apply=np.full(1, batch.apply, np.float32),
            **scalars,
        )["loss"]
        expected = reference.accumulate(batch.x, batch.y, batch.weight)
        errors.one(f"loss of {where}", np.float32(expected), loss[0])
        state = runners["state"]()
        if batch.apply:
            reference.apply()
        gradients = _split(state["accumulator"], reference.gradients)
        errors.tensors(f"gradient after {where}", reference.gradients, gradients)
        errors.tensors(f"weight after {where}", reference.weights(), _values(runners["weights"]()))
    _check_slots(errors, reference, runners["state"]())
    last = batches[0]
    loss, logits = reference.evaluate(last.x, last.y, last.weight)
    found = runners["evaluate"](x=last.x, y=last.y, sample_weight=last.weight)
    errors.one("evaluated loss", np.float32(loss), found["loss"][0])
    errors.one("logits", logits, found["logits"])
    errors.one("inferred logits", logits, runners["infer"](x=last.x)["logits"])
    runners["reset"]()
    errors.one("reset", np.zeros(1, np.float32), runners["state"]()["accumulator"])
    return errors.worst


def _batches(layout: Layout, options: CompileOptions, attempt: int) -> list[_Batch]:
    rng = np.random.default_rng([options.seed, attempt])
    size = options.micro_batch
    short = max(size // 2, 1)
    # Per step: the real samples of each of its micro-batches.
    steps = [[size, size], [size], [size, short], [short], [size]]
    batches = []
    for counts in steps:
        for number, count in enumerate(counts):
            x, y = _samples(rng, layout, options)
            weight = np.zeros(size, np.float32)
            weight[:count] = 1.0 / sum(counts)
            # As the client pads: with a real sample, at weight 0.
            x[count:] = x[0]
            batches.append(_Batch(x, y, weight, number == len(counts) - 1))
    return batches


def _samples(
    rng: np.random.Generator, layout: Layout, options: CompileOptions
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    model = layout.model
    shape = (options.micro_batch, *model.inputs[0].shape[1:])
    output = (options.micro_batch, *model.outputs[0].shape[1:])
    x = rng.normal(size=shape).astype(np.float32)
    vocabulary = [v.shape[0] for v in layout.variables if v.path.endswith("embeddings")]
    if vocabulary:
        x = rng.integers(0, min(vocabulary), shape).astype(np.float32)
    if options.loss == "sparse_categorical_crossentropy":
        return x, rng.integers(0, output[-1], output[:-1]).astype(np.int32)
    if options.loss == "categorical_crossentropy":
        hot = rng.integers(0, output[-1], output[:-1])
        return x, np.eye(output[-1], dtype=np.float32)[hot]
    if options.loss == "binary_crossentropy":
        return x, rng.integers(0, 2, output).astype(np.float32)
    return x, rng.normal(size=output).astype(np.float32)


class _Errors:
    """The largest relative error so far."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.worst = ("nothing", 0.0)

    def one(self, name: str, expected: Any, found: Any, scale: float = 1e-6) -> None:
        """Compare one tensor; ``scale`` is the least size that an error is relative to."""
        expected, found = np.asarray(expected), np.asarray(found)
        if not np.isfinite(found).all() or not np.isfinite(expected).all():
            if np.isfinite(self.worst[1]):
                self.worst = (f"{name}, not finite,", float("inf"))
            return
        difference = float(np.abs(expected - found).max(initial=0.0))
        error = difference / max(float(np.abs(expected).max(initial=0.0)), scale)
        if error > self.worst[1]:
            self.worst = (name, error)

    def tensors(self, what: str, expected: Sequence[Any], found: Sequence[Any]) -> None:
        """Compare the weights, or something for each.

        A tensor whose true value is zero (a bias in front of a batch normalisation has no
        gradient) holds rounding noise: errors are relative to at least a tenth of the largest.
        """
        scale = 0.1 * max(float(np.abs(e).max(initial=0.0)) for e in expected)
        for number, (e, f) in enumerate(zip(expected, found, strict=False)):
            self.one(f"{what} {self._names[number]}", e, f, max(scale, 1e-6))


def _check_slots(errors: _Errors, reference: Reference, state: Mapping[str, Any]) -> None:
    for slot, expected in reference.slots().items():
        errors.one(f"optimizer state {slot}", expected, state[slot])


def _named(tensors: Sequence[Any]) -> dict[str, Any]:
    return {f"w{number:03d}": tensor for number, tensor in enumerate(tensors)}


def _values(named: Mapping[str, Any]) -> list[Any]:
    return [named[key] for key in sorted(named)]


def _split(flat: NDArray[np.float32], like: Sequence[Any]) -> list[Any]:
    parts, at = [], 0
    for tensor in like:
        parts.append(flat[at : at + tensor.size].reshape(tensor.shape))
        at += tensor.size
    return parts
