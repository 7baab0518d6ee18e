"""The reference models of MLPerf Tiny, each with knobs.

Banbury et al., "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks 2021; sizes as in the
reference code, github.com/mlcommons/tiny.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from fieldtune.server.compiler.models.shapes import flat, need_image

layers = keras.layers


def ds_cnn(
    *,
    input_shape: tuple[int, ...] = (49, 10, 1),
    classes: int = 12,
    width: int = 64,
    depth: int = 4,
    dropout: float = 0.2,
) -> Any:
    """Depthwise-separable CNN for keyword spotting (Zhang et al., "Hello Edge", 2017).

    A 10x4 convolution of stride 2, then ``depth`` separable blocks of ``width`` channels.
    """
    need_image("ds_cnn", input_shape)
    inputs = keras.Input(input_shape)
    window = (min(10, input_shape[0]), min(4, input_shape[1]))
    h = _normed(layers.Conv2D(width, window, strides=2, padding="same", use_bias=False)(inputs))
    if dropout:
        h = layers.Dropout(dropout)(h)
    for _ in range(depth):
        h = _separable(h, width, 1)
    if dropout:
        h = layers.Dropout(2 * dropout)(h)
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="ds_cnn")


def resnet8(
    *,
    input_shape: tuple[int, ...] = (32, 32, 3),
    classes: int = 10,
    width: int = 16,
    depth: int = 3,
) -> Any:
    """ResNet-8 for image classification (He et al., CVPR 2016, section 4.2 with n = 1).

    ``depth`` residual blocks; from the second on each halves the image and doubles the width.
    """
    need_image("resnet8", input_shape)
    inputs = keras.Input(input_shape)
    h = _normed(layers.Conv2D(width, 3, padding="same", use_bias=False)(inputs))
    for block in range(depth):
        channels, stride = width * 2**block, 1 if block == 0 else 2
        skip = h
        h = _normed(_conv(h, channels, 3, stride))
        h = layers.BatchNormalization()(_conv(h, channels, 3, 1))
        if block:
            skip = layers.Conv2D(channels, 1, strides=stride, padding="same")(skip)
        h = layers.ReLU()(layers.Add()([h, skip]))
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="resnet8")


def autoencoder(
    *,
    input_shape: tuple[int, ...] = (640,),
    classes: int = 0,
    width: int = 128,
    depth: int = 4,
    code: int = 8,
) -> Any:
    """Dense autoencoder for anomaly detection: the output is the input again, for loss ``mse``.

    ``depth`` layers of ``width`` on either side of ``code`` units; ``classes`` has no meaning.
    """
    del classes
    inputs = keras.Input(input_shape)
    h = flat(inputs)
    for units in [width] * depth + [code] + [width] * depth:
        h = _normed(layers.Dense(units, use_bias=False)(h))
    h = layers.Dense(math.prod(input_shape))(h)
    if len(input_shape) > 1:
        h = layers.Reshape(input_shape)(h)
    return keras.Model(inputs, h, name="autoencoder")


def mobilenet(
    *,
    input_shape: tuple[int, ...] = (96, 96, 3),
    classes: int = 2,
    alpha: float = 0.25,
    depth: int = 5,
    dropout: float = 0.0,
) -> Any:
    """MobileNet v1 for visual wake words (Howard et al., 2017, table 1).

    Args:
        input_shape: of an image.
        classes: number of logits.
        alpha: width multiplier.
        depth: how often the block of 512 channels is repeated.
        dropout: in front of the logits.
    """
    need_image("mobilenet", input_shape)
    inputs = keras.Input(input_shape)
    h = _normed(_conv(inputs, _scaled(32, alpha), 3, 2))
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for channels, stride in [*blocks, *[(512, 1)] * depth, (1024, 2), (1024, 1)]:
        h = _separable(h, _scaled(channels, alpha), stride)
    h = layers.GlobalAveragePooling2D()(h)
    if dropout:
        h = layers.Dropout(dropout)(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="mobilenet")


def _scaled(channels: int, alpha: float) -> int:
    return max(round(channels * alpha), 1)


def _conv(h: Any, channels: int, kernel: int, stride: int) -> Any:
    return layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False)(h)


def _normed(h: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(h))


def _separable(h: Any, channels: int, stride: int) -> Any:
    h = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(h)
    return _normed(_conv(_normed(h), channels, 1, 1))
