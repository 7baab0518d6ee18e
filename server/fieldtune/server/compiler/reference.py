"""The reference that artefacts are verified against: the training step by TensorFlow and Keras.

It shares no code with the artefact but the model, and the random numbers so that dropout is the
same: gradients come from TensorFlow's own autodiff, losses from ``keras.losses``
and updates from ``keras.optimizers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fieldtune.server.compiler.manifest import CompileOptions
from fieldtune.server.compiler.optimizers import accumulates_in_momentum
from fieldtune.server.compiler.probe import Batch
from fieldtune.server.compiler.randomness import Stream
from fieldtune.server.compiler.training import Layout

Array = NDArray[np.float32]
After = tuple[float, dict[str, Array], list[Array]]

_ADAM = {"m": "_momentums", "v": "_velocities"}
_SLOTS: dict[str, dict[str, str]] = {
    "sgd": {"momentum": "momentums"},
    "adam": _ADAM,
    "adamw": _ADAM,
    "rmsprop": {"v": "_velocities"},
    "adagrad": {"v": "_accumulators"},
}


class Reference:
    """A model that is trained by TensorFlow.

    Args:
        layout: the model; its present weights are FedProx's anchor.
        options: as the artefact was compiled.
        h: the values of the hyperparameters.
    """

    def __init__(self, layout: Layout, options: CompileOptions, h: Mapping[str, float]) -> None:
        self._layout = layout
        self._options = options
        self._h = h
        self._calls = 0
        self._anchor = [v.numpy() for v in layout.trainable]
        self._statistics: list[Any] = [v.numpy() for v in layout.statistics]
        self._frozen = [v.value for v in layout.frozen]
        self._trainable = [keras.Variable(v.numpy()) for v in layout.trainable]
        self._optimizer = _keras_optimizer(options, h)
        self._optimizer.build(self._trainable)
        self._loss = _keras_loss(options)
        self._gradients = [np.zeros(v.shape, np.float32) for v in self._trainable]
        self._accumulates = accumulates_in_momentum(options)
        self._base: list[Array] = []
        self._step = tf.function(self._differentiated, autograph=False)

    def take(self, weights: Sequence[Array], state: Mapping[str, Array], calls: int) -> None:
        """Continue from an artefact's weights, accumulated gradient and optimizer state.

        Args:
            weights: in manifest order.
            state: what the signature ``state`` gives.
            calls: of ``train`` so far.
        """
        split = self._layout.split_trainable
        known = len(self._trainable)
        for variable, value in zip(self._trainable, weights, strict=False):
            variable.assign(value)
        self._statistics = list(weights[known : known + len(self._statistics)])
        if self._accumulates:
            # The momentum includes this step's gradients so far: use it as the starting value.
            kept_share = 1.0 if state["pending"][0] else self._h["momentum"]
            self._base = split(state["momentum"] * np.float32(kept_share))
            state = {"momentum": state["momentum"] * (kept_share / self._h["momentum"])}
            self._gradients = [np.zeros_like(value) for value in self._base]
        else:
            self._gradients = split(state["accumulator"])
        for slot, kept in self._slots().items():
            for variable, value in zip(kept, split(state[slot]), strict=True):
                variable.assign(value)
        if "step" in state:
            self._optimizer.iterations.assign(int(state["step"][0]))
        self._calls = calls

    def trace(self, batch: Batch) -> None:
        """Trace the step, which makes the first call slow; :meth:`take` must follow."""
        self._accumulate(batch)

    def call(self, batch: Batch) -> After:
        """One call of ``train``: its loss, then ``state`` and ``weights`` after it."""
        loss = self._accumulate(batch)
        if batch.apply:
            self._apply()
        state = {slot: _join([v.numpy() for v in kept]) for slot, kept in self._slots().items()}
        if not self._accumulates:
            state["accumulator"] = _join(self._gradients)
        elif not batch.apply:
            pairs = zip(self._base, self._gradients, strict=True)
            rate = np.float32(self._h["learning_rate"])
            state["momentum"] = _join([np.asarray(b - rate * g, np.float32) for b, g in pairs])
        if self._accumulates:
            state["pending"] = np.full(1, not batch.apply, np.float32)
        tensors = [*(v.value for v in self._trainable), *self._statistics, *self._frozen]
        return loss, state, [np.asarray(t) for t in tensors]

    def evaluate(self, batch: Batch) -> tuple[float, Array]:
        """Weighted loss sum and logits."""
        output, _, _ = self._layout.call(
            [v.value for v in self._trainable],
            self._statistics,
            self._frozen,
            tf.constant(batch.x),
            training=False,
        )
        return float(self._weighted(batch.y, batch.weight, output)), output.numpy()

    def _accumulate(self, batch: Batch) -> float:
        weights = [v.value for v in self._trainable]
        calls = tf.constant([float(self._calls)])
        found, self._statistics, loss = self._step(
            weights, self._statistics, calls, batch.x, batch.y, batch.weight
        )
        self._calls += 1
        self._gradients = [
            total + gradient.numpy() for total, gradient in zip(self._gradients, found, strict=True)
        ]
        return float(loss)

    def _differentiated(
        self, weights: Any, statistics: Any, calls: Any, x: Any, y: Any, sample_weight: Any
    ) -> tuple[list[Any], list[Any], Any]:
        """Gradients, new statistics and loss of one batch; traced."""
        stream = None
        if self._layout.draws_random_numbers:
            stream = Stream(tf.constant([self._h["seed"]]), calls)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            output, new, extra = self._layout.call(
                weights, statistics, self._frozen, x, training=True, stream=stream
            )
            loss = self._weighted(y, sample_weight, output)
            if extra:
                loss += tf.reduce_sum(sample_weight) * tf.add_n(extra)
        gradients = tape.gradient(loss, weights)
        return (
            [tf.convert_to_tensor(gradient) for gradient in gradients],
            [tf.convert_to_tensor(value) for value in new],
            loss,
        )

    def _apply(self) -> None:
        gradients = self._gradients
        if "proximal" in self._options.extras:
            gradients = [
                g + self._h["proximal"] * (v.numpy() - a)
                for g, v, a in zip(gradients, self._trainable, self._anchor, strict=True)
            ]
        self._optimizer.apply([tf.constant(g) for g in gradients], self._trainable)
        self._gradients = [np.zeros_like(g) for g in self._gradients]

    def _slots(self) -> dict[str, list[Any]]:
        attributes = _SLOTS[self._options.optimizer]
        return {slot: list(getattr(self._optimizer, name)) for slot, name in attributes.items()}

    def _weighted(self, y: Any, sample_weight: Any, output: Any) -> Any:
        if self._options.loss == "sparse_categorical_crossentropy":
            # Keras smooths labels only where they are one-hot.
            y = tf.one_hot(y, output.shape[-1])
        each = tf.convert_to_tensor(self._loss(y, output))
        each = tf.reduce_mean(tf.reshape(each, [each.shape[0], -1]), 1)
        return tf.reduce_sum(sample_weight * each)


def _join(tensors: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(tensor) for tensor in tensors])


def _keras_loss(options: CompileOptions) -> Any:
    logits = {"from_logits": True, "label_smoothing": options.label_smoothing, "reduction": None}
    match options.loss:
        case "sparse_categorical_crossentropy":
            return keras.losses.CategoricalCrossentropy(**logits)
        case "mse":
            return keras.losses.MeanSquaredError(reduction=None)
        case "mae":
            return keras.losses.MeanAbsoluteError(reduction=None)
        case "huber":
            return keras.losses.Huber(reduction=None)


def _keras_optimizer(options: CompileOptions, h: Mapping[str, float]) -> Any:
    common: dict[str, Any] = {"learning_rate": h["learning_rate"]}
    if "weight_decay" in options.hyperparameters:
        common["weight_decay"] = h["weight_decay"]
    if "clip_norm" in options.extras:
        common["global_clipnorm"] = h["clip_norm"]
    adam = {name: h[name] for name in ("beta_1", "beta_2", "epsilon") if name in h}
    match options.optimizer:
        case "sgd":
            return keras.optimizers.SGD(momentum=h["momentum"], nesterov=options.nesterov, **common)
        case "adam":
            return keras.optimizers.Adam(**adam, **common)
        case "adamw":
            return keras.optimizers.AdamW(**adam, **common)
        case "rmsprop":
            return keras.optimizers.RMSprop(rho=h["rho"], epsilon=h["epsilon"], **common)
        case "adagrad":
            return keras.optimizers.Adagrad(epsilon=h["epsilon"], **common)
