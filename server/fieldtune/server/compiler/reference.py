"""The training step as TensorFlow and Keras do it themselves: what an artefact must agree with.

Nothing here shares code with the artefact beyond the model: gradients come from TensorFlow's own
autodiff, losses from ``keras.losses`` and updates from ``keras.optimizers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fieldtune.server.compiler.manifest import CompileOptions
from fieldtune.server.compiler.randomness import Stream
from fieldtune.server.compiler.training import Layout

Arrays = list[NDArray[np.float32]]


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
        layout: the model and its weights.
        options: as the artefact was compiled.
        h: the values of the hyperparameters.
    """

    def __init__(self, layout: Layout, options: CompileOptions, h: Mapping[str, float]) -> None:
        self._layout = layout
        self._options = options
        self._h = h
        self._calls = 0
        self._trainable = [tf.Variable(v.value) for v in layout.trainable]
        self._statistics = [tf.constant(v.numpy()) for v in layout.statistics]
        self._frozen = [tf.constant(v.numpy()) for v in layout.frozen]
        self._anchor = [v.numpy() for v in layout.trainable]
        self._keras = [keras.Variable(v.numpy(), trainable=True) for v in layout.trainable]
        self.optimizer = _keras_optimizer(options, h)
        self.optimizer.build(self._keras)
        self._loss = _keras_loss(options)
        self.gradients = [np.zeros(v.shape, np.float32) for v in self._trainable]

    def accumulate(self, x: Any, y: Any, sample_weight: Any) -> float:
        """Add the gradient of one micro-batch; return its loss."""
        stream = None
        if self._layout.draws_random_numbers:
            stream = Stream(tf.constant([self._h["seed"]]), tf.constant([float(self._calls)]))
        self._calls += 1
        with tf.GradientTape() as tape:
            output, statistics, extra = self._layout.call(
                self._trainable,
                self._statistics,
                self._frozen,
                tf.constant(x),
                training=True,
                stream=stream,
            )
            loss = self._weighted(y, output, sample_weight)
            if extra:
                loss += tf.reduce_sum(sample_weight) * tf.add_n(extra)
        found = tape.gradient(loss, self._trainable)
        self.gradients = [
            total + tf.convert_to_tensor(g).numpy()
            for total, g in zip(self.gradients, found, strict=True)
        ]
        self._statistics = [tf.convert_to_tensor(v) for v in statistics]
        return float(loss)

    def apply(self) -> None:
        """Step with the accumulated gradient and clear it."""
        gradients = self.gradients
        if "proximal" in self._options.extras:
            gradients = [
                g + self._h["proximal"] * (v.numpy() - a)
                for g, v, a in zip(gradients, self._keras, self._anchor, strict=True)
            ]
        self.optimizer.apply([tf.constant(g) for g in gradients], self._keras)
        for mine, keras_variable in zip(self._trainable, self._keras, strict=True):
            mine.assign(keras_variable.value)
        self.gradients = [np.zeros_like(g) for g in self.gradients]

    def evaluate(self, x: Any, y: Any, sample_weight: Any) -> tuple[float, Any]:
        """Weighted loss sum and logits."""
        output, _, _ = self._layout.call(
            self._trainable, self._statistics, self._frozen, tf.constant(x), training=False
        )
        return float(self._weighted(y, output, sample_weight)), output.numpy()

    def weights(self) -> Arrays:
        """All weights in manifest order."""
        return [v.numpy() for v in [*self._trainable, *self._statistics, *self._frozen]]

    def slots(self) -> dict[str, NDArray[np.float32]]:
        """The optimizer's state, each slot as one flat vector."""
        attributes = _SLOTS[self._options.optimizer]
        return {
            slot: np.concatenate([np.ravel(v.numpy()) for v in getattr(self.optimizer, attribute)])
            for slot, attribute in attributes.items()
        }

    def _weighted(self, y: Any, output: Any, sample_weight: Any) -> Any:
        if self._options.loss == "sparse_categorical_crossentropy":
            # Keras smooths labels only where they are one-hot.
            y = tf.one_hot(y, output.shape[-1])
        each = tf.convert_to_tensor(self._loss(tf.constant(y), output))
        each = tf.reduce_mean(tf.reshape(each, [each.shape[0], -1]), 1)
        return tf.reduce_sum(sample_weight * each)


def _keras_loss(options: CompileOptions) -> Any:
    logits = {"from_logits": True, "label_smoothing": options.label_smoothing, "reduction": None}
    match options.loss:
        case "sparse_categorical_crossentropy" | "categorical_crossentropy":
            return keras.losses.CategoricalCrossentropy(**logits)
        case "binary_crossentropy":
            return keras.losses.BinaryCrossentropy(**logits)
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
    if "clip_norm" in options.extras and h["clip_norm"] > 0:
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
