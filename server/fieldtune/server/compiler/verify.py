"""Verification: every artefact is run in the TFLite runtime and compared with TensorFlow.

Conversion can give wrong numbers without an error, so five optimizer steps are run in the installed
TFLite runtime, over full, accumulated and short (zero-weight padded) batches. After each call of
``train`` the loss, every gradient, every weight and the optimizer's state must agree with those of
:class:`~fieldtune.server.compiler.reference.Reference`; at the end the logits. The reference
continues from the artefact's numbers at each call, so that rounding errors do not grow from step to
step in a deep network. Then one call is compared without the runtime's delegate, since other
kernels and another memory plan are used there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.manifest import CompileOptions
from fieldtune.server.compiler.probe import PROBE_VALUES, Batch, batches
from fieldtune.server.compiler.reference import Reference
from fieldtune.server.compiler.training import Layout

SIGNATURES = ("train", "evaluate", "infer", "load", "weights", "reset", "state")

TOLERANCE = 1e-4
"""Largest error allowed, relative to the largest entry of a tensor."""

NOISES = (1e-6, 3e-6, 1e-5)
"""Relative perturbations of the data, to estimate how large an error rounding can explain."""

LIMIT = 0.25
"""Largest error allowed where rounding explains it. Among a million ReLUs one has an input so close
to 0 that rounding decides on its side, which changes some gradient by per cents, in TensorFlow as
well; so do many layers of batch normalisation over a few samples."""

ATTEMPTS = 3
"""After a failed comparison other data and a tenth of the learning rate are tried, since a model
that diverges within five steps cannot be compared."""


class Verifier:
    """Compares the artefact of one model with TensorFlow.

    The constructor traces the reference, which can be done while the artefact is being converted.

    Args:
        layout: the model with its initial weights.
        options: with which it is compiled.
        name: of the model in error messages.
    """

    def __init__(self, layout: Layout, options: CompileOptions, name: str) -> None:
        self._layout, self._options, self._name = layout, options, name
        self._first = _Comparison(layout, options, 0)

    def check(self, model: bytes) -> None:
        """Verify an artefact.

        Raises:
            CompileError: it differs from TensorFlow (the message names the tensor with the largest
                error), or the runtime refuses the file.
        """
        worst = ("nothing", 0.0)
        try:
            runs = _Runs(model)
            for attempt in range(ATTEMPTS):
                other = _Comparison(self._layout, self._options, attempt) if attempt else None
                worst = (other or self._first).worst(runs)
                if worst[1] <= TOLERANCE:
                    return
        except (RuntimeError, ValueError) as refused:
            raise CompileError(
                f"model {self._name!r}: the TFLite runtime cannot run the compiled model "
                f"({refused})"
            ) from refused
        raise CompileError(
            f"model {self._name!r}: the compiled model does not train as TensorFlow does "
            f"({worst[0]} is off by {worst[1]:.1e} of its size, {TOLERANCE:.0e} is allowed); "
            "replace that layer or report the model"
        )


class _Runs:
    """The artefact's signatures in the installed runtime, with and without its delegate."""

    def __init__(self, model: bytes) -> None:
        self._model = model
        self.delegated = self._signatures(OpResolverType.AUTO)

    def plain(self) -> dict[str, Any]:
        """Without the delegate; not kept, since it is used once and needs as much memory."""
        return self._signatures(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)

    def _signatures(self, resolver: Any) -> dict[str, Any]:
        interpreter = Interpreter(
            model_content=self._model, num_threads=1, experimental_op_resolver_type=resolver
        )
        return {name: interpreter.get_signature_runner(name) for name in SIGNATURES}


class _Comparison:
    """Runs the artefact and the reference on the same batches."""

    def __init__(self, layout: Layout, options: CompileOptions, attempt: int) -> None:
        self._run: dict[str, Any] = {}
        self._layout = layout
        self._options = options
        self._names = [spec.name for spec in layout.specs]
        hyperparameters = options.hyperparameters + ("seed",) * layout.draws_random_numbers
        self._h = {name: PROBE_VALUES[name] for name in hyperparameters}
        self._h["learning_rate"] /= 10**attempt
        self._scalars = {name: np.full(1, v, np.float32) for name, v in self._h.items()}
        self._batches = batches(layout, options, attempt)
        self._rng = np.random.default_rng(attempt)
        self._reference = Reference(layout, options, self._h)
        self._reference.trace(self._batches[0])

    def worst(self, runs: _Runs) -> tuple[str, float]:
        """The tensor with the largest error, and that error."""
        self._run, reference = runs.delegated, self._reference
        start = [v.numpy() for v in self._layout.variables]
        self._load(start)
        loaded = _Errors()
        loaded.tensors("loaded weight", self._names, start, self._weights())
        found = [loaded.worst]
        for number, batch in enumerate(self._batches):
            before = self._weights(), self._run["state"](), number
            reference.take(*before)
            found.append(self._call(batch, f"of call {number + 1}", before))
            if found[-1][1] > TOLERANCE:
                return found[-1]
        reference.take(self._weights(), self._run["state"](), 0)
        found += [self._inference(), self._counts(), self._reset()]
        self._run = runs.plain()
        self._load(start)
        before = start, self._run["state"](), 0
        reference.take(*before)
        found.append(self._call(self._batches[0], "without delegate", before))
        return max(found, key=lambda pair: pair[1])

    def _load(self, weights: Sequence[Any]) -> None:
        self._run["load"](**{f"w{number:03d}": tensor for number, tensor in enumerate(weights)})

    def _reset(self) -> tuple[str, float]:
        self._run["reset"]()
        errors = _Errors()
        state = self._run["state"]()
        left = state.get("accumulator", state.get("momentum"))
        errors.one("reset", np.zeros(1, np.float32), left)
        return errors.worst

    def _call(self, batch: Batch, where: str, before: tuple[Any, ...]) -> tuple[str, float]:
        """Compare one call of ``train``."""
        reference = self._reference
        loss = self._run["train"](
            x=batch.x,
            y=batch.y,
            sample_weight=batch.weight,
            apply=np.full(1, batch.apply, np.float32),
            **self._scalars,
        )["loss"][0]
        expected = reference.call(batch)
        errors = self._errors(where, expected, (loss, self._run["state"](), self._weights()))
        if errors.worst[1] <= TOLERANCE:
            return errors.worst

        def noises() -> Iterator[float]:
            for other in self._alike(batch):
                reference.take(*before)
                yield self._errors(where, expected, reference.call(other)).worst[1]

        return _explained(errors.worst, noises())

    def _errors(self, where: str, expected: Any, found: Any) -> _Errors:
        errors = _Errors()
        errors.one(f"loss {where}", np.float32(expected[0]), np.float32(found[0]))
        holds_gradients = "accumulator" if "accumulator" in expected[1] else "momentum"
        for slot, value in expected[1].items():
            given = found[1][slot]
            if slot == holds_gradients:
                parts = self._layout.split_trainable
                errors.tensors(f"gradient {where}", self._names, parts(value), parts(given))
            else:
                errors.one(f"optimizer state {slot} {where}", value, given)
        errors.tensors(f"weight {where}", self._names, expected[2], found[2])
        return errors

    def _inference(self) -> tuple[str, float]:
        reference, batch = self._reference, self._batches[0]
        found = self._run["evaluate"](x=batch.x, y=batch.y, sample_weight=batch.weight)
        inferred = self._run["infer"](x=batch.x)["logits"]
        expected = reference.evaluate(batch)
        errors = _inferred(expected, found["loss"][0], found["logits"], inferred)

        def noises() -> Iterator[float]:
            for size in NOISES:
                loss, logits = reference.evaluate(self._moved(batch, size))
                yield _inferred(expected, loss, logits, logits)[1]

        return _explained(errors, noises())

    def _counts(self) -> tuple[str, float]:
        """Compare the counts of ``evaluate`` with its own logits, which is exact."""
        batch = self._batches[0]
        found = self._run["evaluate"](x=batch.x, y=batch.y, sample_weight=batch.weight)
        if "correct" not in found:
            return "nothing", 0.0
        logits, classes = found["logits"], np.arange(found["logits"].shape[-1])
        labels = batch.y if batch.y.ndim < logits.ndim else batch.y.argmax(-1)
        weight = batch.weight.reshape(-1, *[1] * (logits.ndim - 1))
        actual, chosen = (labels[..., None] == classes), (logits.argmax(-1)[..., None] == classes)
        axes = tuple(range(logits.ndim - 1))
        expected = {
            "hits": (weight * (actual & chosen)).sum(axes),
            "predicted": (weight * chosen).sum(axes),
            "actual": (weight * actual).sum(axes),
        }
        errors = _Errors()
        for name, value in expected.items():
            errors.one(f"evaluated {name}", value, found[name])
        errors.one("evaluated correct", expected["hits"].sum(), found["correct"][0])
        return errors.worst

    def _weights(self) -> list[NDArray[np.float32]]:
        named = self._run["weights"]()
        return [named[key] for key in sorted(named)]

    def _alike(self, batch: Batch) -> Iterator[Batch]:
        """Batches that should give the same results but for rounding: reordered, or perturbed."""
        if not self._layout.draws_random_numbers:
            # Sums that cancel (the gradient of a bias before a batch normalisation) are pure
            # rounding errors, which perturbing the data hardly changes.
            order = self._rng.permutation(len(batch.x))
            yield Batch(batch.x[order], batch.y[order], batch.weight[order], batch.apply)
        for size in NOISES:
            yield self._moved(batch, size)

    def _moved(self, batch: Batch, size: float) -> Batch:
        factor = 1.0 + size * self._rng.choice([-1.0, 1.0], batch.x.shape)
        return Batch((batch.x * factor).astype(np.float32), batch.y, batch.weight, batch.apply)


def _explained(worst: tuple[str, float], noises: Iterable[float]) -> tuple[str, float]:
    """The error, reduced to the tolerance where rounding changes TensorFlow's results as much.

    Args:
        worst: the tensor with the largest error, and that error.
        noises: how much the reference's results change for batches that differ by rounding; taken
            one after the other until one explains the error.
    """
    if TOLERANCE < worst[1] <= LIMIT and any(worst[1] <= 10.0 * noise for noise in noises):
        return worst[0], TOLERANCE
    return worst


def _inferred(
    expected: tuple[float, Any], loss: Any, evaluated: Any, inferred: Any
) -> tuple[str, float]:
    errors = _Errors()
    errors.one("evaluated loss", np.float32(expected[0]), np.float32(loss))
    errors.one("logits", expected[1], evaluated)
    errors.one("inferred logits", expected[1], inferred)
    return errors.worst


class _Errors:
    """The largest relative error so far and where it is."""

    def __init__(self) -> None:
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

    def tensors(
        self, what: str, names: Sequence[str], expected: Sequence[Any], found: Sequence[Any]
    ) -> None:
        """Compare the weights, or something for each.

        A tensor whose true value is zero (a bias in front of a batch normalisation has no
        gradient) holds rounding noise: errors are relative to at least a tenth of the largest.
        """
        scale = 0.1 * max(float(np.abs(e).max(initial=0.0)) for e in expected)
        for name, e, f in zip(names, expected, found, strict=False):
            self.one(f"{what} {name}", e, f, max(scale, 1e-6))
