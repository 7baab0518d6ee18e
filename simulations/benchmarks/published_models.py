"""The architectures of published latency tables, rebuilt as TensorFlow functions.

Weights are random: a latency depends on shapes alone. SAME padding, batch 1, as the tables name
them: ``mobilenet-v1-ALPHA-RES``, ``mobilenet-v2-ALPHA-RES``, ``mobilenet-v3-KIND_RES_ALPHA_float``,
``efficientnet-liteN``, ``efficientdet-liteN`` (without the non-maximum suppression), ``resnetN``,
``mnasnet-b1-ALPHA-RES``, three Keras applications, and ``nasbench201-CELL``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf

Net = Callable[[Any], Any]
_RNG = np.random.default_rng(0)


def _weights(*shape: int) -> Any:
    return tf.constant(_RNG.standard_normal(shape, dtype=np.float32) * 0.05)


def _active(x: Any, name: str | None) -> Any:
    if name == "hard_swish":
        return x * tf.nn.relu6(x + 3.0) * (1 / 6.0)
    return x if name is None else getattr(tf.nn, name)(x)


def _conv(x: Any, filters: int, size: int = 1, stride: int = 1, act: str | None = None,
          padding: str = "SAME") -> Any:  # fmt: skip
    y = tf.nn.conv2d(x, _weights(size, size, x.shape[-1], filters), stride, padding)
    return _active(tf.nn.bias_add(y, _weights(filters)), act)


def _depthwise(x: Any, size: int = 3, stride: int = 1, act: str | None = None) -> Any:
    kernel = _weights(size, size, x.shape[-1], 1)
    y = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
    return _active(tf.nn.bias_add(y, _weights(x.shape[-1])), act)


def _classify(x: Any, classes: int, *, softmax: bool = True) -> Any:
    x = tf.reduce_mean(x, [1, 2])
    x = tf.matmul(x, _weights(x.shape[-1], classes)) + _weights(classes)
    return tf.nn.softmax(x) if softmax else x


def _classify_by_conv(x: Any) -> Any:
    x = _conv(tf.nn.avg_pool2d(x, x.shape[1], 1, "VALID"), 1001)
    return tf.nn.softmax(tf.reshape(x, [1, 1001]))


def _divisible(value: float, by: int = 8) -> int:
    near = max(by, int(value + by / 2) // by * by)
    return near + by if near < 0.9 * value else near


def _inverted(x: Any, expand: float, filters: int, size: int, stride: int, act: str = "relu6",
              *, residual: bool = True) -> Any:  # fmt: skip
    y = x
    if expand > 1:
        y = _conv(y, int(y.shape[-1] * expand), act=act)
    y = _conv(_depthwise(y, size, stride, act), filters)
    return x + y if residual and stride == 1 and x.shape[-1] == filters else y


def _mobilenet_v1(alpha: float) -> Net:
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
              (1024, 2), (1024, 1)]  # fmt: skip

    def net(x: Any) -> Any:
        x = _conv(x, max(int(32 * alpha), 8), 3, 2, "relu6")
        for filters, stride in blocks:
            x = _depthwise(x, 3, stride, "relu6")
            x = _conv(x, max(int(filters * alpha), 8), act="relu6")
        return _classify_by_conv(x)

    return net


def _mobilenet_v2(alpha: float) -> Net:
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
              (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip

    def net(x: Any) -> Any:
        x = _conv(x, _divisible(32 * alpha), 3, 2, "relu6")
        for expand, filters, count, stride in blocks:
            for index in range(count):
                x = _inverted(x, expand, _divisible(filters * alpha), 3, 1 if index else stride)
        x = _conv(x, _divisible(1280 * max(alpha, 1.0)), act="relu6")
        return _classify_by_conv(x)

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
        start, filters = x, _divisible(filters * alpha)
        if expand != 1:
            x = _conv(x, _divisible(x.shape[-1] * expand), act=act)
        x = _depthwise(x, size, stride, act)
        if squeeze and not minimal:
            channels = x.shape[-1]
            q = tf.reduce_mean(x, [1, 2], keepdims=True)
            q = _conv(_conv(q, _divisible(channels * 0.25), act="relu"), channels)
            x = x * (tf.nn.relu6(q + 3.0) * (1 / 6.0))
        x = _conv(x, filters)
        return x + start if stride == 1 and start.shape[-1] == filters else x

    def net(x: Any) -> Any:
        x = _conv(x, 16, 3, 2, late)
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
        x = _conv(x, _divisible(x.shape[-1] * 6), act=late)
        x = tf.reduce_mean(x, [1, 2], keepdims=True)
        x = _conv(_conv(x, 1024 if kind == "small" else 1280, act=late), 1001)
        return tf.nn.softmax(tf.reshape(x, [1, 1001]))

    return net


_EFFICIENT = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
              (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]  # fmt: skip
_EFFICIENTNETS = {"0": (1.0, 1.0, 224), "1": (1.0, 1.1, 240), "2": (1.1, 1.2, 260),
                  "3": (1.2, 1.4, 280), "4": (1.4, 1.8, 300)}  # fmt: skip


def _backbone(x: Any, width: float, depth: float) -> list[Any]:
    """Results of all stages of an EfficientNet-Lite."""
    x, found = _conv(x, 32, 3, 2, "relu6"), []
    for stage, (count, size, stride, expand, filters) in enumerate(_EFFICIENT):
        scaled = count if stage in (0, 6) else int(np.ceil(count * depth))
        for index in range(scaled):
            x = _inverted(x, expand, _divisible(filters * width), size, 1 if index else stride)
        found.append(x)
    return found


def _efficientnet(width: float, depth: float) -> Net:
    return lambda x: _classify(
        _conv(_backbone(x, width, depth)[-1], 1280, act="relu6"), 1000
    )  # fmt: skip


_EFFICIENTDETS = {
    "0": (1.0, 1.0, 64, 3, 3, 320), "1": (1.0, 1.1, 88, 4, 3, 384), "2": (1.1, 1.2, 112, 5, 3, 448),
    "3": (1.2, 1.4, 160, 6, 4, 512), "3x": (1.2, 1.4, 200, 6, 4, 640),
    "4": (1.4, 1.8, 224, 7, 4, 640),
}  # fmt: skip
"""Width, depth, channels of the pyramid, its cells, layers of the heads, resolution."""


def _efficientdet(width: float, depth: float, channels: int, cells: int, layers: int) -> Net:
    def separable(x: Any, filters: int, act: str | None = None) -> Any:
        kernel = _weights(3, 3, x.shape[-1], 1)
        return _conv(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"), filters, act=act)

    def fuse(tensors: list[Any]) -> Any:
        return separable(tf.nn.relu6(sum(tensors[1:], tensors[0])), channels)

    def shrink(x: Any) -> Any:
        return tf.nn.max_pool2d(x, 3, 2, "SAME")

    def grow(x: Any, like: Any) -> Any:
        return tf.compat.v1.image.resize_nearest_neighbor(x, like.shape[1:3])

    def same(x: Any) -> Any:
        return _conv(x, channels) if x.shape[-1] != channels else x

    def net(x: Any) -> Any:
        stages = _backbone(x, width, depth)
        sixth = shrink(_conv(stages[6], channels))
        levels = [stages[2], stages[4], stages[6], sixth, shrink(sixth)]
        for _ in range(cells):
            down = [same(levels[4])]
            for level in (3, 2, 1, 0):
                down.insert(0, fuse([same(levels[level]), grow(down[0], levels[level])]))
            up = [down[0]]
            for level in (1, 2, 3):
                up.append(fuse([same(levels[level]), down[level], shrink(up[-1])]))
            levels = [*up, fuse([same(levels[4]), shrink(up[-1])])]
        heads: dict[int, list[Any]] = {810: [], 36: []}
        for level in levels:
            for outputs, found in heads.items():
                head = level
                for _ in range(layers):
                    head = separable(head, channels, "relu6")
                found.append(tf.reshape(separable(head, outputs), [1, -1, outputs // 9]))
        return tf.sigmoid(tf.concat(heads[810], 1)), tf.concat(heads[36], 1)

    return net


def _resnet(counts: tuple[int, ...], *, bottleneck: bool, classes: int) -> Net:
    def net(x: Any) -> Any:
        x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]])
        x = tf.nn.max_pool2d(_conv(x, 64, 7, 2, "relu", "VALID"), 3, 2, "SAME")
        for stage, count in enumerate(counts):
            filters = 64 * 2**stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                if bottleneck:
                    y = _conv(_conv(x, filters, act="relu"), filters, 3, stride, "relu")
                    y = _conv(y, 4 * filters)
                else:
                    y = _conv(_conv(x, filters, 3, stride, "relu"), filters, 3)
                if y.shape != x.shape:
                    x = _conv(x, y.shape[-1], 1, stride)
                x = tf.nn.relu(x + y)
        return _classify(x, classes)

    return net


def _mnasnet(alpha: float) -> Net:
    blocks = [(3, 24, 3, 2, 3), (3, 40, 3, 2, 5), (6, 80, 3, 2, 5), (6, 96, 2, 1, 3),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]  # fmt: skip

    def net(x: Any) -> Any:
        x = _depthwise(_conv(x, 32, 3, 2, "relu"), 3, 1, "relu")
        x = _conv(x, _divisible(16 * alpha))
        for expand, filters, count, stride, size in blocks:
            for index in range(count):
                x = _inverted(x, expand, _divisible(filters * alpha), size,
                              1 if index else stride, "relu", residual=index > 0)  # fmt: skip
        return _classify(_conv(x, 1280, act="relu"), 1000)

    return net


def _nasbench201(cell: str) -> Net:
    """Edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2; Dong and Yang, ICLR 2020."""
    edges = list(zip((1, 2, 2, 3, 3, 3), (0, 0, 1, 0, 1, 2), cell, strict=True))

    def op(x: Any, active: Any, kind: str) -> Any:
        if kind in "13":
            return _conv(active, x.shape[-1], int(kind))
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
        x = _conv(x, 16, 3)
        for stage in range(3):
            if stage:
                y = _conv(tf.nn.relu(_conv(tf.nn.relu(x), 16 * 2**stage, 3, 2)), 16 * 2**stage, 3)
                x = _conv(tf.nn.avg_pool2d(x, 2, 2, "VALID"), 16 * 2**stage) + y
            for _ in range(5):
                x = one_cell(x)
        x = tf.nn.relu(x * _weights(x.shape[-1]) + _weights(x.shape[-1]))
        return _classify(x, 10, softmax=False)

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
    if family == "efficientnet" and rest in _EFFICIENTNETS:
        *scale, size = _EFFICIENTNETS[rest]
        return _efficientnet(*scale), int(size)
    if family == "efficientdet" and rest in _EFFICIENTDETS:
        width, depth, channels, cells, layers, size = _EFFICIENTDETS[rest]
        return _efficientdet(width, depth, channels, cells, layers), size
    if name in _RESNETS:
        deep = name == "resnet50"
        return _resnet(_RESNETS[name], bottleneck=deep, classes=1001 if deep else 1000), 224
    if name in _APPLICATIONS:
        application, size = _APPLICATIONS[name]
        return _application(application, size), size
    parts = name.split("-")
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
        converter.representative_dataset = lambda: [[_RNG.standard_normal(shape, np.float32)]]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    content: bytes = converter.convert()
    return content
