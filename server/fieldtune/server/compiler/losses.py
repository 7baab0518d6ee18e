"""Per-sample losses on logits, as Keras defines them, and a classifier's counts.

Each takes ``y`` and the model's output ``[B, ...]`` and returns ``[B]``: the mean over everything
that is not the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.manifest import CompileOptions


def target_spec(options: CompileOptions, output_shape: tuple[int, ...]) -> Any:
    """The ``tf.TensorSpec`` of ``y`` for a model with this output shape (without batch)."""
    if options.loss == "sparse_categorical_crossentropy":
        return tf.TensorSpec([options.micro_batch, *output_shape[:-1]], tf.int32)
    return tf.TensorSpec([options.micro_batch, *output_shape], tf.float32)


def loss_function(
    options: CompileOptions, output_shape: tuple[int, ...]
) -> Callable[[Any, Any], Any]:
    """The function ``(y, output) -> loss [B]`` of these options.

    Raises:
        CompileError: the model's output does not suit the loss.
    """
    if options.loss == "sparse_categorical_crossentropy" and output_shape[-1] < 2:
        raise CompileError(
            f"loss {options.loss!r} needs at least 2 logits, the model has {output_shape[-1]}: "
            "give it one for each class"
        )
    losses: dict[str, Callable[[Any, Any], Any]] = {
        "sparse_categorical_crossentropy": lambda y, z: _cross_entropy(
            tf.one_hot(y, output_shape[-1]), z, options.label_smoothing
        ),
        "mse": lambda y, z: tf.square(z - y),
        "mae": lambda y, z: tf.abs(z - y),
        "huber": lambda y, z: _huber(z - y),
    }
    elementwise = losses[options.loss]

    def loss(y: Any, output: Any) -> Any:
        value = elementwise(y, output)
        axes = list(range(1, len(value.shape)))
        return tf.reduce_mean(value, axes) if axes else value

    return loss


def class_counts(
    options: CompileOptions, y: Any, logits: Any, sample_weight: Any
) -> dict[str, Any]:
    """Weighted counts of a classifier's hits; empty for a loss that is not a classifier's.

    Args:
        options: name the loss.
        y: as the loss takes it.
        logits: ``[B, ..., classes]``.
        sample_weight: ``[B]``.

    Returns:
        ``correct`` ``[1]``; ``hits``, ``predicted`` and ``actual``, ``[classes]`` each.
    """
    if options.loss != "sparse_categorical_crossentropy":
        return {}
    classes = logits.shape[-1]
    weight = tf.reshape(sample_weight, [-1, *[1] * (len(logits.shape) - 1)])
    actual = tf.one_hot(y, classes) * weight
    chosen = tf.one_hot(tf.argmax(logits, -1, tf.int32), classes)

    def total(t: Any) -> Any:
        return tf.reduce_sum(t, list(range(len(logits.shape) - 1)))

    hits = total(actual * chosen)
    return {
        "correct": tf.reshape(tf.reduce_sum(hits), [1]),
        "hits": hits,
        "predicted": total(chosen * weight),
        "actual": total(actual),
    }


def _cross_entropy(target: Any, logits: Any, smoothing: float) -> Any:
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / logits.shape[-1]

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def loss(z: Any) -> Any:
        def gradient(dy: Any) -> Any:
            return tf.expand_dims(dy, -1) * (tf.nn.softmax(z) - target)

        return -tf.reduce_sum(target * tf.nn.log_softmax(z), -1), gradient

    return loss(logits)


def _huber(error: Any) -> Any:
    size = tf.abs(error)
    inside = tf.minimum(size, 1.0)
    return inside * (size - 0.5 * inside)
