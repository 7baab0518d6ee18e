"""The architectures of published latency tables, rebuilt as TensorFlow functions.

Weights are random: a latency depends on shapes alone. SAME padding, batch 1, as the tables name
them: ``mobilenet-v1-ALPHA-RES``, ``mobilenet-v2-ALPHA-RES``, ``mobilenet-v3-KIND_RES_ALPHA_float``,
``efficientnet-liteN``, ``efficientdet-liteN`` (without the non-maximum suppression), ``resnetN``,
``mnasnet-b1-ALPHA-RES``, ``yolox-KIND-RES``, three Keras applications, and ``nasbench201-CELL``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from published_efficient import EFFICIENTDETS, EFFICIENTNETS, efficientdet, efficientnet
from published_layers import (
    RNG,
    Net,
    classify,
    classify_by_conv,
    conv,
    depthwise,
    divisible,
    inverted,
    weights,
)
from published_yolox import YOLOX, yolox


def _mobilenet_v1(alpha: float) -> Net:
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
              (1024, 2), (1024, 1)]  # fmt: skip

    def net(x: Any) -> Any:
        x = conv(x, max(int(32 * alpha), 8), 3, 2, "relu6")
        for filters, stride in blocks:
            x = depthwise(x, 3, stride, "relu6")
            x = conv(x, max(int(filters * alpha), 8), act="relu6")
        return classify_by_conv(x)

    return net


def _mobilenet_v2(alpha: float) -> Net:
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
              (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip

    def net(x: Any) -> Any:
        x = conv(x, divisible(32 * alpha), 3, 2, "relu6")
        for expand, filters, count, stride in blocks:
            for index in range(count):
                x = inverted(x, expand, divisible(filters * alpha), 3, 1 if index else stride)
        x = conv(x, divisible(1280 * max(alpha, 1.0)), act="relu6")
        return classify_by_conv(x)

    return net


_V3_SMALL = [(72 / 16, 24, 2, 0, 3), (88 / 24, 24, 1, 0, 3)]
_V3_SMALL_LATE = [(4, 40, 2), (6, 40, 1), (6, 40, 1), (3, 48, 1), (3, 48, 1), (6, 96, 2),
                  (6, 96, 1), (6, 96, 1)]  # fmt: skip
_V3_LARGE_LATE = [(6, 80, 2, 0), (2.5, 80, 1, 0), (2.3, 80, 1, 0), (2.3, 80, 1, 0), (6, 112, 1, 1),
                  (6, 112, 1, 1)]  # fmt: skip


def _mobilenet_v3(kind: str, alpha: float, *, minimal: bool) -> Net:
    late, wide = "relu" if minimal else "hard_swish", 3 if minimal else 5

    def block(x: Any, expand: float, filters: int, size: int, stride: int, squeeze: bool,
              act: str) -> Any:  # fmt: skip
        start, filters = x, divisible(filters * alpha)
        if expand != 1:
            x = conv(x, divisible(x.shape[-1] * expand), act=act)
        x = depthwise(x, size, stride, act)
        if squeeze and not minimal:
            channels = x.shape[-1]
            q = tf.reduce_mean(x, [1, 2], keepdims=True)
            q = conv(conv(q, divisible(channels * 0.25), act="relu"), channels)
            x = x * (tf.nn.relu6(q + 3.0) * (1 / 6.0))
        x = conv(x, filters)
        return x + start if stride == 1 and start.shape[-1] == filters else x

    def net(x: Any) -> Any:
        x = conv(x, 16, 3, 2, late)
        if kind == "small":
            x = block(x, 1, 16, 3, 2, True, "relu")
            for expand, filters, stride, squeeze, size in _V3_SMALL:
                x = block(x, expand, filters, size, stride, bool(squeeze), "relu")
            for expand, filters, stride in _V3_SMALL_LATE:
                x = block(x, expand, filters, wide, stride, True, late)
        else:
            x = block(x, 1, 16, 3, 1, False, "relu")
            x = block(block(x, 4, 24, 3, 2, False, "relu"), 3, 24, 3, 1, False, "relu")
            for stride in (2, 1, 1):
                x = block(x, 3, 40, wide, stride, True, "relu")
            for expand, filters, stride, squeeze in _V3_LARGE_LATE:
                x = block(x, expand, filters, 3, stride, bool(squeeze), late)
            for stride in (2, 1, 1):
                x = block(x, 6, 160, wide, stride, True, late)
        x = conv(x, divisible(x.shape[-1] * 6), act=late)
        x = tf.reduce_mean(x, [1, 2], keepdims=True)
        x = conv(conv(x, 1024 if kind == "small" else 1280, act=late), 1001)
        return tf.nn.softmax(tf.reshape(x, [1, 1001]))

    return net


def _resnet(counts: tuple[int, ...], *, bottleneck: bool, classes: int) -> Net:
    def net(x: Any) -> Any:
        x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]])
        x = tf.nn.max_pool2d(conv(x, 64, 7, 2, "relu", "VALID"), 3, 2, "SAME")
        for stage, count in enumerate(counts):
            filters = 64 * 2**stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                if bottleneck:
                    y = conv(conv(x, filters, act="relu"), filters, 3, stride, "relu")
                    y = conv(y, 4 * filters)
                else:
                    y = conv(conv(x, filters, 3, stride, "relu"), filters, 3)
                if y.shape != x.shape:
                    x = conv(x, y.shape[-1], 1, stride)
                x = tf.nn.relu(x + y)
        return classify(x, classes)

    return net


def _mnasnet(alpha: float) -> Net:
    blocks = [(3, 24, 3, 2, 3), (3, 40, 3, 2, 5), (6, 80, 3, 2, 5), (6, 96, 2, 1, 3),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]  # fmt: skip

    def net(x: Any) -> Any:
        x = depthwise(conv(x, 32, 3, 2, "relu"), 3, 1, "relu")
        x = conv(x, divisible(16 * alpha))
        for expand, filters, count, stride, size in blocks:
            for index in range(count):
                x = inverted(x, expand, divisible(filters * alpha), size,
                              1 if index else stride, "relu", residual=index > 0)  # fmt: skip
        return classify(conv(x, 1280, act="relu"), 1000)

    return net


def _nasbench201(cell: str) -> Net:
    """Edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2; Dong and Yang, ICLR 2020."""
    edges = list(zip((1, 2, 2, 3, 3, 3), (0, 0, 1, 0, 1, 2), cell, strict=True))

    def op(x: Any, active: Any, kind: str) -> Any:
        if kind in "13":
            return conv(active, x.shape[-1], int(kind))
        return tf.nn.avg_pool2d(x, 3, 1, "SAME") if kind == "p" else x

    def one_cell(x: Any) -> Any:
        nodes, active = {0: x}, {}
        for node in (1, 2, 3):
            for to, start, kind in edges:
                if to != node or kind == "n" or start not in nodes:
                    continue
                if kind in "13" and start not in active:
                    active[start] = tf.nn.relu(nodes[start])
                y = op(nodes[start], active.get(start), kind)
                nodes[node] = nodes[node] + y if node in nodes else y
        return nodes[3]

    def net(x: Any) -> Any:
        x = conv(x, 16, 3)
        for stage in range(3):
            if stage:
                y = conv(tf.nn.relu(conv(tf.nn.relu(x), 16 * 2**stage, 3, 2)), 16 * 2**stage, 3)
                x = conv(tf.nn.avg_pool2d(x, 2, 2, "VALID"), 16 * 2**stage) + y
            for _ in range(5):
                x = one_cell(x)
        x = tf.nn.relu(x * weights(x.shape[-1]) + weights(x.shape[-1]))
        return classify(x, 10, softmax=False)

    return net


def _application(name: str, size: int) -> Net:
    import keras

    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    return lambda x: model(x, training=False)


_APPLICATIONS = {
    "nasnet-mobile": ("NASNetMobile", 224),
    "densenet121": ("DenseNet121", 224),
    "inception-resnet-v2": ("InceptionResNetV2", 299),
}
_RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def _net(name: str) -> tuple[Net, int] | None:
    """The function of an architecture, and its resolution; None where it is not known."""
    family, _, rest = name.rpartition("-lite")
    if family == "efficientnet" and rest in EFFICIENTNETS:
        *scale, size = EFFICIENTNETS[rest]
        return efficientnet(*scale), int(size)
    if family == "efficientdet" and rest in EFFICIENTDETS:
        width, depth, channels, cells, layers, size = EFFICIENTDETS[rest]
        return efficientdet(width, depth, channels, cells, layers), size
    if name in _RESNETS:
        deep = name == "resnet50"
        return _resnet(_RESNETS[name], bottleneck=deep, classes=1001 if deep else 1000), 224
    if name in _APPLICATIONS:
        application, size = _APPLICATIONS[name]
        return _application(application, size), size
    parts = name.split("-")
    if name.startswith("yolox"):
        # NetsPresso's have four classes and a square side; Tsukamoto's are those of COCO.
        kind, side = name.removeprefix("yolox").strip("-_").replace("_", "-").split("-")
        classes = 80 if "x" in side else 4
        return yolox(*YOLOX[kind], classes), int(side.partition("x")[0])
    if name.startswith("nasbench201-"):
        return _nasbench201(parts[1]), 32
    if name.startswith("mobilenet-v3-"):
        kind, size_text, alpha, _ = name.removeprefix("mobilenet-v3-").split("_")
        minimal = "minimalistic" in kind
        return _mobilenet_v3(kind.split("-")[0], float(alpha), minimal=minimal), int(size_text)
    makers = {"mobilenet-v1": _mobilenet_v1, "mobilenet-v2": _mobilenet_v2, "mnasnet-b1": _mnasnet}
    maker = makers.get("-".join(parts[:2]))
    return None if maker is None else (maker(float(parts[2])), int(parts[3]))


def rebuilt(name: str, precision: str) -> bytes | None:
    """A ``.tflite`` file of an architecture (``fp32`` or ``int8``); None where it is not known."""
    known = _net(name)
    if known is None:
        return None
    net, size = known
    shape = (1, size, size, 3)
    traced = tf.function(net).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: [[RNG.standard_normal(shape, np.float32)]]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    content: bytes = converter.convert()
    return content
