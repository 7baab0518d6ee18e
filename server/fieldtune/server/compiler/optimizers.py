"""Optimizers on one flat vector, following Keras's formulas.

``apply`` (1 or 0, shape ``[1]``) masks every update by arithmetic: with 0 the same ops run and all
state stays as it is.

Plain SGD needs no vector to accumulate gradients in, since ``momentum * m - lr * (g1 + g2)`` equals
``(momentum * m - lr * g1) - lr * g2``. It takes gradients that are multiplied by ``-lr`` already,
and needs ten passes over vectors of the weights' size instead of seventeen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.manifest import CompileOptions

Tensors = Mapping[str, Any]
Rule = Callable[[Any, Any, Any, Tensors, Tensors], tuple[Any, dict[str, Any]]]

ADAGRAD_INITIAL = 0.1
"""Keras's initial value of Adagrad's accumulator."""


class FlatOptimizer:
    """One optimizer over a flat parameter vector of ``size`` numbers.

    Args:
        options: names the optimizer and its extras.
        size: of the parameter vector.
    """

    def __init__(self, options: CompileOptions, size: int) -> None:
        self.options = options
        self.accumulates = accumulates_in_momentum(options)
        if self.accumulates:
            self.pending = tf.Variable(tf.zeros([1]))
        self.slots = {
            name: tf.Variable(tf.zeros([1 if name == "step" else size]))
            for name in _SLOTS[options.optimizer]
        }
        if "proximal" in options.extras:
            self.anchor = tf.Variable(tf.zeros([size]))

    @property
    def variables(self) -> list[Any]:
        """Every variable, for the converter."""
        extra = [self.anchor] if "proximal" in self.options.extras else []
        pending = [self.pending] if self.accumulates else []
        return [*self.slots.values(), *extra, *pending]

    def clear(self, zeros: Any) -> None:
        """Set the slots to their initial values.

        Args:
            zeros: a vector of zeros, ``[size]``.
        """
        start = zeros + ADAGRAD_INITIAL if self.options.optimizer == "adagrad" else zeros
        for name, slot in self.slots.items():
            slot.assign(tf.zeros([1]) if name == "step" else start)
        if self.accumulates:
            self.pending.assign(tf.zeros([1]))

    def anchor_at(self, weights: Any) -> None:
        """Set FedProx's anchor, the weights that its term pulls towards."""
        if "proximal" in self.options.extras:
            self.anchor.assign(weights)

    def descend(self, weights: Any, change: Any, apply: Any, h: Tensors) -> Any:
        """The weights after one (masked) step of an optimizer that accumulates in its momentum.

        Args:
            weights: ``[size]``.
            change: ``[size]``, ``-lr`` times the gradient of this micro-batch.
            apply: ``[1]``, 1 or 0.
            h: the hyperparameters, ``[1]`` each.
        """
        if "proximal" in self.options.extras:
            pull = apply * h["learning_rate"] * h["proximal"]
            change = change - pull * (weights - self.anchor.read_value())
        pending = self.pending.read_value()
        kept = pending + (1.0 - pending) * h["momentum"]
        momentum = self.slots["momentum"].read_value() * kept + change
        self.slots["momentum"].assign(momentum)
        self.pending.assign(1.0 - apply)
        return self._decayed(weights, apply, h) + apply * momentum

    def _decayed(self, weights: Any, apply: Any, h: Tensors) -> Any:
        if "weight_decay" not in self.options.hyperparameters:
            return weights
        return weights * (1.0 - apply * h["learning_rate"] * h["weight_decay"])

    def step(self, weights: Any, gradient: Any, apply: Any, h: Tensors) -> Any:
        """The weights after one (masked) step; assigns the slots.

        Args:
            weights: ``[size]``.
            gradient: ``[size]``, of the whole effective batch.
            apply: ``[1]``, 1 or 0.
            h: the hyperparameters, ``[1]`` each.
        """
        if "proximal" in self.options.extras:
            # FedProx (Li et al., MLSys 2020), equation 2: mu/2 |w - anchor|^2 added to the loss.
            gradient = gradient + h["proximal"] * (weights - self.anchor.read_value())
        if "clip_norm" in self.options.extras:
            gradient = _clip(gradient, h["clip_norm"])
        slots = {name: slot.read_value() for name, slot in self.slots.items()}
        rule = _nesterov if self.options.nesterov else _RULES[self.options.optimizer]
        change, new = rule(gradient, apply, h["learning_rate"], h, slots)
        for name, value in new.items():
            self.slots[name].assign(value)
        return self._decayed(weights, apply, h) + change


def accumulates_in_momentum(options: CompileOptions) -> bool:
    """Whether gradients can be added directly to the optimizer's momentum.

    Not with clipping, which needs the norm of the gradients alone, nor with Nesterov's momentum,
    which uses them twice.
    """
    return options.optimizer == "sgd" and not options.nesterov and "clip_norm" not in options.extras


def _clip(gradient: Any, limit: Any) -> Any:
    norm = tf.sqrt(tf.reshape(tf.reduce_sum(gradient * gradient), [1]))
    off = tf.cast(limit <= 0.0, tf.float32)
    # A gradient of zeros has norm 0: divide by something positive, it stays zero.
    return gradient * tf.minimum(1.0, off + limit / tf.maximum(norm, 1e-30))


def _sgd(g: Any, apply: Any, lr: Any, h: Tensors, slots: Tensors) -> tuple[Any, dict[str, Any]]:
    m = slots["momentum"] * (1.0 - apply + apply * h["momentum"]) - (apply * lr) * g
    return apply * m, {"momentum": m}


def _nesterov(
    g: Any, apply: Any, lr: Any, h: Tensors, slots: Tensors
) -> tuple[Any, dict[str, Any]]:
    change, new = _sgd(g, apply, lr, h, slots)
    return change * h["momentum"] - (apply * lr) * g, new


def _adam(g: Any, apply: Any, lr: Any, h: Tensors, slots: Tensors) -> tuple[Any, dict[str, Any]]:
    # Adam (Kingma and Ba, 2015), the efficient form at the end of its section 2.
    keep_1 = apply * (1.0 - h["beta_1"])
    keep_2 = apply * (1.0 - h["beta_2"])
    m = slots["m"] * (1.0 - keep_1) + keep_1 * g
    v = slots["v"] * (1.0 - keep_2) + keep_2 * (g * g)
    # The number of this step, also while nothing is applied: 0 would divide by zero.
    t = slots["step"] + 1.0
    alpha = lr * tf.sqrt(1.0 - tf.pow(h["beta_2"], t)) / (1.0 - tf.pow(h["beta_1"], t))
    change = (-apply * alpha) * m / (tf.sqrt(v) + h["epsilon"])
    return change, {"m": m, "v": v, "step": slots["step"] + apply}


def _rmsprop(g: Any, apply: Any, lr: Any, h: Tensors, slots: Tensors) -> tuple[Any, dict[str, Any]]:
    keep = apply * (1.0 - h["rho"])
    v = slots["v"] * (1.0 - keep) + keep * (g * g)
    return (-apply * lr) * g / tf.sqrt(v + h["epsilon"]), {"v": v}


def _adagrad(g: Any, apply: Any, lr: Any, h: Tensors, slots: Tensors) -> tuple[Any, dict[str, Any]]:
    v = slots["v"] + apply * (g * g)
    return (-apply * lr) * g / tf.sqrt(v + h["epsilon"]), {"v": v}


_SLOTS = {
    "sgd": ("momentum",),
    "adam": ("m", "v", "step"),
    "adamw": ("m", "v", "step"),
    "rmsprop": ("v",),
    "adagrad": ("v",),
}
_RULES: dict[str, Rule] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}
