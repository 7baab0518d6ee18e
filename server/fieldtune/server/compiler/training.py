"""The functions of an artefact: train, evaluate, infer, load, weights, reset, state.

All trainable weights live in one flat variable (split into views at the start of a call), and so do
their accumulated gradient and each slot of the optimizer: an update is a dozen ops however many
weights there are. Moving statistics are a second vector, frozen weights a third that is only read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.convert import Signature, trace
from fieldtune.server.compiler.gradients import built_in_gradients
from fieldtune.server.compiler.losses import class_counts, loss_function, target_spec
from fieldtune.server.compiler.manifest import CompileOptions, WeightSpec, unflatten
from fieldtune.server.compiler.optimizers import FlatOptimizer
from fieldtune.server.compiler.prepare import prepare
from fieldtune.server.compiler.randomness import Stream
from fieldtune.server.compiler.replaced_ops import built_in_operations, random_numbers, total


class Layout:
    """The order of a model's weights in the flat vector: trainable, statistics, frozen.

    Args:
        model: a built ``keras.Model``.

    Raises:
        CompileError: nothing is trainable, or a weight is not float32.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trainable = list(model.trainable_variables)
        others = list(model.non_trainable_variables)
        # Integer variables are the states of seed generators, not weights.
        self.states = [v for v in others if not v.dtype.startswith("float")]
        floats = [v for v in others if v.dtype.startswith("float")]
        prepare(model)
        moved, draws = _probe(model, self.trainable, others) if others else (set(), 0)
        self.draws_random_numbers = draws > 0
        self.statistics = [v for v in floats if id(v) in moved]
        self.frozen = [v for v in floats if id(v) not in moved]
        self._order = [id(v) for v in others]
        if not self.trainable:
            raise CompileError(
                f"model {model.name!r} has nothing to train: every layer is frozen or without "
                "weights"
            )
        for variable in self.variables:
            if variable.dtype != "float32":
                raise CompileError(
                    f"weight {variable.path!r} is {variable.dtype}: build the model in float32"
                )

    @property
    def variables(self) -> list[Any]:
        """The model's float variables in manifest order."""
        return [*self.trainable, *self.statistics, *self.frozen]

    @property
    def specs(self) -> tuple[WeightSpec, ...]:
        """The manifest's description of the weights."""
        return tuple(
            WeightSpec(
                name=v.path,
                shape=tuple(v.shape),
                dtype=str(v.dtype),
                trainable=number < len(self.trainable),
            )
            for number, v in enumerate(self.variables)
        )

    def flat(self) -> NDArray[np.float32]:
        """The model's present weights as one vector in manifest order."""
        return np.concatenate([np.asarray(v.numpy(), np.float32).ravel() for v in self.variables])

    def assign(self, flat: NDArray[np.float32]) -> None:
        """Set the model's weights from a flat vector."""
        for variable, value in zip(self.variables, unflatten(self.specs, flat), strict=True):
            variable.assign(value)

    def split_trainable(self, flat: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """A flat vector of the trainable weights (a gradient, a slot), each in its shape."""
        return list(unflatten(self.specs[: len(self.trainable)], flat))

    def call(
        self,
        trainable: Sequence[Any],
        statistics: Sequence[Any],
        frozen: Sequence[Any],
        x: Any,
        *,
        training: bool,
        stream: Stream | None = None,
    ) -> tuple[Any, list[Any], list[Any]]:
        """Run the model on these tensors instead of its variables, drawing from ``stream``.

        Returns:
            The output, the new statistics, and the model's own losses (regularisers).
        """
        values = {
            id(v): t
            for v, t in zip([*self.statistics, *self.frozen], [*statistics, *frozen], strict=True)
        } | {id(v): v.value for v in self.states}
        others = [values[key] for key in self._order]
        with random_numbers(stream):
            output, new, losses = self.model.stateless_call(
                list(trainable), others, self._input(x), training=training, return_losses=True
            )
        after = dict(zip(self._order, new, strict=True))
        return output, [after[id(v)] for v in self.statistics], list(losses)

    def _input(self, x: Any) -> Any:
        return tf.cast(x, self.model.inputs[0].dtype)


def _probe(model: Any, trainable: Sequence[Any], others: Sequence[Any]) -> tuple[set[int], int]:
    """Which of the other variables a training call changes, and its number of random draws."""
    found: set[int] = set()
    stream = Stream(tf.zeros([1]), tf.zeros([1]))

    def call(x: Any) -> Any:
        given = [tf.identity(v.value) for v in others]
        with random_numbers(stream):
            output, new = model.stateless_call(
                [v.value for v in trainable],
                given,
                tf.cast(x, model.inputs[0].dtype),
                training=True,
            )
        found.update(
            id(v)
            for v, before, after in zip(others, given, new, strict=True)
            if after is not before
        )
        return output

    shape = [2, *model.inputs[0].shape[1:]]
    tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return found, stream.draws


class Program:
    """The functions of an artefact for one model.

    Args:
        layout: the model's weights.
        options: how it is trained.
    """

    def __init__(self, layout: Layout, options: CompileOptions) -> None:
        self.layout = layout
        self.options = options
        model = layout.model
        self.input_shape = tuple(model.inputs[0].shape[1:])
        self.output_shape = tuple(model.outputs[0].shape[1:])
        self.loss = loss_function(options, self.output_shape)
        self.weights_var = _Vector(layout.trainable)
        self.statistics_var = _Vector(layout.statistics)
        self.frozen_var = _Vector(layout.frozen)
        self.optimizer = FlatOptimizer(options, self.weights_var.size)
        if not self.optimizer.accumulates:
            self.accumulator = tf.Variable(tf.zeros([self.weights_var.size]))
        self.hyperparameters = options.hyperparameters
        if layout.draws_random_numbers:
            self.hyperparameters += ("seed",)
            self.calls = tf.Variable(tf.zeros([1]))
        # Traced once for both signatures that infer.
        self._forward = tf.function(self._inferred, autograph=False)

    @property
    def variables(self) -> list[Any]:
        """Every variable that the functions use."""
        vectors = (self.weights_var, self.statistics_var, self.frozen_var)
        flat = [vector.variable for vector in vectors if vector.size]
        calls = [self.calls] if self.layout.draws_random_numbers else []
        accumulator = [] if self.optimizer.accumulates else [self.accumulator]
        return [*flat, *accumulator, *self.optimizer.variables, *calls]

    def signatures(self) -> dict[str, Signature]:
        """Trace every function."""
        batch = self.options.micro_batch
        x = {"x": tf.TensorSpec([batch, *self.input_shape])}
        samples = x | {
            "y": target_spec(self.options, self.output_shape),
            "sample_weight": tf.TensorSpec([batch]),
        }
        scalars = {name: tf.TensorSpec([1]) for name in ("apply", *self.hyperparameters)}
        weights = {
            f"w{number:03d}": tf.TensorSpec(v.shape)
            for number, v in enumerate(self.layout.variables)
        }
        return {
            "train": trace(self._train, samples | scalars),
            "evaluate": trace(self._evaluate, samples),
            "infer": trace(self._infer, x),
            "load": trace(self._load, weights),
            "weights": trace(self._weights, {}),
            "reset": trace(self._reset, {}),
            "state": trace(self._state, {}),
        }

    def _train(self, x: Any, y: Any, sample_weight: Any, apply: Any, *scalars: Any) -> Any:
        h = dict(zip(self.hyperparameters, scalars, strict=True))
        flat = self.weights_var.variable.read_value()
        weights = self.weights_var.split(flat)
        statistics, frozen = self.statistics_var.read(), self.frozen_var.read()
        stream = None
        if self.layout.draws_random_numbers:
            calls = self.calls.read_value()
            stream = Stream(h["seed"], calls)
            self.calls.assign(calls + 1.0)
        with built_in_gradients(tf.compat.v1.get_default_graph()), built_in_operations():
            output, new, extra = self.layout.call(
                weights, statistics, frozen, x, training=True, stream=stream
            )
            loss = tf.reduce_sum(sample_weight * self.loss(y, output))
            if extra:
                # Once per effective batch, whose sample weights sum to 1.
                loss += tf.reduce_sum(sample_weight) * total(extra)
            # Scaling the loss costs nothing; scaling the gradient is a pass over it.
            factor = -h["learning_rate"] if self.optimizer.accumulates else tf.ones([1])
            gradients = tf.gradients(loss, weights, grad_ys=tf.reshape(factor, []))
        self._all_reached(gradients)
        gradient = self.weights_var.join(gradients)
        if self.optimizer.accumulates:
            self.weights_var.variable.assign(self.optimizer.descend(flat, gradient, apply, h))
        else:
            gradient = self.accumulator.read_value() + gradient
            self.weights_var.variable.assign(self.optimizer.step(flat, gradient, apply, h))
            self.accumulator.assign((1.0 - apply) * gradient)
        if new:
            self.statistics_var.variable.assign(self.statistics_var.join(new))
        return {"loss": tf.reshape(loss, [1])}

    def _all_reached(self, gradients: Sequence[Any]) -> None:
        for variable, gradient in zip(self.layout.trainable, gradients, strict=True):
            if gradient is None:
                raise CompileError(
                    f"weight {variable.path!r} does not influence the loss: freeze its layer "
                    "(trainable = False) or remove it"
                )

    def _inferred(self, x: Any) -> Any:
        weights = self.weights_var.read()
        with built_in_operations():
            output, _, _ = self.layout.call(
                weights, self.statistics_var.read(), self.frozen_var.read(), x, training=False
            )
        return output

    def _evaluate(self, x: Any, y: Any, sample_weight: Any) -> Any:
        logits = self._forward(x)
        loss = tf.reduce_sum(sample_weight * self.loss(y, logits))
        counts = class_counts(self.options, y, logits, sample_weight)
        return {"loss": tf.reshape(loss, [1]), "logits": logits, **counts}

    def _infer(self, x: Any) -> Any:
        return {"logits": self._forward(x)}

    def _load(self, *weights: Any) -> Any:
        at = 0
        for vector in (self.weights_var, self.statistics_var, self.frozen_var):
            if vector.size:
                flat = vector.join(weights[at : at + len(vector.shapes)])
                vector.variable.assign(flat)
                if vector is self.weights_var:
                    trainable = flat
                    self.optimizer.anchor_at(flat)
            at += len(vector.shapes)
        return self._clear(trainable)

    def _reset(self) -> Any:
        return self._clear(self.weights_var.variable.read_value())

    def _clear(self, like: Any) -> Any:
        # Zeros by a comparison that is never true: a constant would be stored in the file, as large
        # as the weights, and 0 * x is not zero where x is not finite.
        zeros = tf.cast(tf.abs(like) < 0.0, tf.float32)
        if not self.optimizer.accumulates:
            self.accumulator.assign(zeros)
        self.optimizer.clear(zeros)
        if self.layout.draws_random_numbers:
            self.calls.assign(tf.zeros([1]))
        return {"ok": tf.ones([1], tf.int32)}

    def _weights(self) -> Any:
        vectors = (self.weights_var, self.statistics_var, self.frozen_var)
        tensors = [tensor for vector in vectors for tensor in vector.read()]
        return {f"w{number:03d}": tensor for number, tensor in enumerate(tensors)}

    def _state(self) -> Any:
        slots = {name: slot.read_value() for name, slot in self.optimizer.slots.items()}
        if self.optimizer.accumulates:
            return slots | {"pending": self.optimizer.pending.read_value()}
        return slots | {"accumulator": self.accumulator.read_value()}


class _Vector:
    """Several weights in one flat variable."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self.shapes = [tuple(v.shape) for v in variables]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.size = sum(self.sizes)
        self.variable = tf.Variable(tf.zeros([self.size]))

    def read(self) -> list[Any]:
        """Each weight in its shape."""
        return self.split(self.variable.read_value()) if self.size else []

    def split(self, flat: Any) -> list[Any]:
        """The parts of a flat vector, each in its shape."""
        parts = tf.split(flat, self.sizes) if len(self.sizes) > 1 else [flat]
        return [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, tensors: Sequence[Any]) -> Any:
        """The flat vector of tensors in these shapes."""
        flat = [tf.reshape(tensor, [-1]) for tensor in tensors]
        return tf.concat(flat, 0) if len(flat) > 1 else flat[0]
