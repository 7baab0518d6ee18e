"""Replacements of Keras operations, in force while a model is traced.

TFLite has no built-in ops for their forward pass, or the converter gets them wrong: random numbers,
exact GELU (error function), grouped convolutions and some ReLUs. (Backward passes are replaced per
op, see ``gradients``.)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import math_ops

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.gradients.convolution import conv2d_forward
from fieldtune.server.compiler.gradients.moments import batch_norm, moments
from fieldtune.server.compiler.randomness import Stream

_BACKEND = "keras.src.backend.tensorflow"


@contextmanager
def random_numbers(stream: Stream | None) -> Iterator[None]:
    """Within the block, Keras draws its random numbers from ``stream``.

    Args:
        stream: ``None`` for inference: numbers that are drawn even then (recurrent layers draw
            masks that they do not use) are constants.

    Raises:
        CompileError: a number of a distribution without built-in ops is drawn.
    """
    constant: list[Stream] = []

    def source() -> Stream:
        if stream is not None:
            return stream
        if not constant:
            constant.append(Stream(tf.zeros([1]), tf.zeros([1])))
        return constant[0]

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        del seed
        if rate == 0.0:
            return inputs
        given = noise_shape if noise_shape is not None else inputs.shape
        shape = tuple(
            size if noise is None else int(noise)
            for size, noise in zip(inputs.shape, given, strict=True)
        )
        kept = tf.cast(source().uniform(shape) >= rate, inputs.dtype)
        return inputs * (kept * (1.0 / (1.0 - rate)))

    def uniform(
        shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        del dtype, seed
        return source().uniform(_static(shape)) * (maxval - minval) + minval

    def normal(
        shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        del dtype, seed
        return source().normal(_static(shape)) * stddev + mean

    module = sys.modules[f"{_BACKEND}.random"]
    replaced = {"dropout": dropout, "uniform": uniform, "normal": normal}
    for name in ("truncated_normal", "gamma", "binomial", "beta", "categorical", "randint"):
        replaced[name] = _refused(name)
    with _replaced([(module, name, function) for name, function in replaced.items()]):
        yield


@contextmanager
def built_in_operations() -> Iterator[None]:
    """Within the block, forward passes use built-in ops only, and none that is converted wrongly.

    The converter fuses a ReLU into a preceding matrix product, and drops it where the matrix is a
    variable: such a ReLU is traced as ``tf.where``.
    """
    nn = sys.modules[f"{_BACKEND}.nn"]
    plain_conv, plain_normalisation = nn.conv, nn.batch_normalization
    # Moments by the identity of their mean, all three tensors kept so that no id is used again.
    own_moments: dict[int, tuple[Any, Any, Any]] = {}

    def conv(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        groups = inputs.shape[-1] // kernel.shape[-2]
        if groups > 1:
            pairs = zip(tf.split(inputs, groups, -1), tf.split(kernel, groups, -1), strict=True)
            parts = [conv(x, w, strides, padding, data_format, dilation_rate) for x, w in pairs]
            return tf.concat(parts, -1)
        if len(inputs.shape) == 3 and data_format != "channels_first":
            stride, dilation = (_pair(value)[-1] for value in (strides, dilation_rate))
            row = tf.expand_dims(inputs, 1), tf.expand_dims(kernel, 0)
            out = conv2d_forward(*row, (1, stride), padding.upper(), (1, dilation))
            return tf.squeeze(out, 1)
        if len(inputs.shape) != 4 or data_format == "channels_first":
            return plain_conv(inputs, kernel, strides, padding, data_format, dilation_rate)
        return conv2d_forward(inputs, kernel, _pair(strides), padding.upper(), _pair(dilation_rate))

    def fast_moments(
        x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False
    ) -> tuple[Any, Any]:
        del synchronized
        x = tf.convert_to_tensor(x)
        mean, variance = moments(x, axes, keepdims)
        if not keepdims and list(axes) == list(range(len(x.shape) - 1)):
            own_moments[id(mean)] = (x, mean, variance)
        return mean, variance

    def normalised(
        x: Any,
        mean: Any,
        variance: Any,
        axis: int,
        offset: Any = None,
        scale: Any = None,
        epsilon: float = 1e-3,
    ) -> Any:
        data, _, own_variance = own_moments.get(id(mean), (None, None, None))
        if data is x and own_variance is variance and axis % len(x.shape) == len(x.shape) - 1:
            return batch_norm(x, mean, variance, offset, scale, epsilon)
        return plain_normalisation(x, mean, variance, axis, offset, scale, epsilon)

    def chosen(plain: Callable[[Any], Any], low: float, high: float) -> Callable[[Any], Any]:
        def activation(x: Any) -> Any:
            x = tf.convert_to_tensor(x)
            if not _is_product(x):
                return plain(x)
            y = tf.where(x > low, x, low)
            return y if math.isinf(high) else tf.where(x < high, y, high)

        return activation

    def erfc(x: Any, name: Any = None) -> Any:
        del name
        return 1.0 - erf(x)

    keras_math = sys.modules[f"{_BACKEND}.math"]
    with (
        operations_that_convert(),
        _replaced(
            [
                (nn, "conv", conv),
                (nn, "moments", fast_moments),
                (nn, "batch_normalization", normalised),
                (nn, "relu", chosen(nn.relu, 0.0, math.inf)),
                (nn, "relu6", chosen(nn.relu6, 0.0, 6.0)),
                (nn, "hard_tanh", chosen(nn.hard_tanh, -1.0, 1.0)),
                (math_ops, "add_n", total),
                (math_ops, "erfc", erfc),
                (math_ops, "erf", erf),
                (tf.math, "erf", erf),
                (tf.math, "erfc", erfc),
                (keras_math, "erf", erf),
            ]
        ),
    ):
        yield


def _is_product(x: Any) -> bool:
    """Whether a tensor of a graph is a matrix product, perhaps in another shape."""
    if tf.executing_eagerly():
        return False
    op, place = x.op, x.value_index
    while op.type in ("Reshape", "Identity", "IdentityN", "Squeeze", "ExpandDims", "Transpose"):
        # IdentityN marks what has a gradient of its own; the others have one operand that counts.
        x = op.inputs[place if op.type == "IdentityN" else 0]
        op, place = x.op, x.value_index
    return op.type in ("MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum")


def total(inputs: Any, name: Any = None) -> Any:
    """The sum of tensors; XNNPACK has no ADD_N."""
    del name
    first, *others = inputs if isinstance(inputs, list | tuple) else [inputs]
    for other in others:
        first = first + other
    return first


@contextmanager
def operations_that_convert() -> Iterator[None]:
    """Within the block, operations on which the converter fails are traced as others.

    A transpose that only moves axes of size 1 becomes a reshape; a product of a batch with one
    matrix becomes a single 2-D product, or a broadcast multiplication if the matrix has one row; a
    bias along another axis than the last (Keras may also add ``[1, n, 1]`` so) becomes an addition.
    """
    with _replaced(
        [
            (tf, "transpose", _transpose),
            (tf, "matmul", _matmul),
            (tf.nn, "bias_add", _bias_add),
        ]
    ):
        yield


_plain_transpose, _plain_matmul, _plain_bias_add = tf.transpose, tf.matmul, tf.nn.bias_add


def _bias_add(value: Any, bias: Any, data_format: str | None = None, name: Any = None) -> Any:
    if data_format is None or not data_format.startswith("NC"):
        return _plain_bias_add(value, bias, data_format, name)
    return value + tf.reshape(bias, [-1, *[1] * (len(value.shape) - 2)])


def _matmul(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
    a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
    flags = any(args) or any(value for key, value in kwargs.items() if key != "name")
    if flags or len(b.shape) != 2 or not a.shape.is_fully_defined():
        return _plain_matmul(a, b, *args, **kwargs)
    if a.shape[-1] == 1:
        return a * b
    if len(a.shape) <= 2:
        return _plain_matmul(a, b, *args, **kwargs)
    out = _plain_matmul(tf.reshape(a, [-1, a.shape[-1]]), b)
    return tf.reshape(out, [*a.shape[:-1], b.shape[1]])


def _transpose(a: Any, perm: Any = None, conjugate: bool = False, name: str = "transpose") -> Any:
    """``tf.transpose``, as a reshape where only axes of size 1 move.

    The converter merges such a transpose with an adjacent reshape of another rank and then fails,
    for example in attention with one head.
    """
    a = tf.convert_to_tensor(a)
    if isinstance(perm, list | tuple) and a.shape.is_fully_defined():
        order = [axis for axis in perm if a.shape[axis] > 1]
        if order == sorted(order):
            return tf.reshape(a, [a.shape[axis] for axis in perm])
    return _plain_transpose(a, perm, conjugate, name)


def erf(x: Any, name: Any = None) -> Any:
    """The error function, to 1.5e-7 (Abramowitz and Stegun, 1964, formula 7.1.26)."""
    del name
    value: Any = _erf(tf.convert_to_tensor(x))
    return value


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow ships no types
def _erf(x: Any) -> Any:
    size = tf.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series: Any = 1.061405429
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + coefficient
    bell = tf.exp(-size * size)
    rest = series * t * bell

    def gradient(dy: Any) -> Any:
        return dy * bell * (2.0 / math.sqrt(math.pi))

    return tf.where(x < 0.0, rest - 1.0, 1.0 - rest), gradient


def _pair(value: Any) -> tuple[int, int]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return int(sizes[0]), int(sizes[-1])


def _refused(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        raise CompileError(
            f"keras.random.{name} cannot be used on a device: use dropout, uniform or normal"
        )

    return refuse


def _static(shape: Any) -> tuple[int, ...]:
    given = tf.get_static_value(tf.convert_to_tensor(shape)) if tf.is_tensor(shape) else shape
    return tuple(int(size) for size in given)


@contextmanager
def _replaced(functions: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(module, name, getattr(module, name)) for module, name, _ in functions]
    for module, name, function in functions:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)
