"""Which kernel computes an op, and how often its inner loop runs.

Two ops of one class may be computed by kernels that differ tenfold in speed: XNNPACK's or the
runtime's own, a convolution of 1x1 or of 5x5, an addition of equal shapes or of a row to a matrix.
A kernel's name is its class and what tells it from its siblings, most general first, with dots
between: ``conv``, ``conv.conv_2d``, ``conv.conv_2d.plain``. So a profile that has not measured a
kernel can fall back to the nearest name in front of it. Detecting kernels follows nn-Meter (Zhang
et al., MobiSys 2021, section 4), with the runtime's own rules in place of test cases.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from fieldtune.profiles.flops import OpClass, Tensor

# One kernel computes them all, at one speed.
_SAME = {
    **dict.fromkeys(
        ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), "binary"
    ),
    **dict.fromkeys(
        ("ABS", "NEG", "SQUARE", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "HARD_SWISH",
         "LEAKY_RELU", "FLOOR", "CEIL", "ROUND"),
        "unary",
    ),
    **dict.fromkeys(
        ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL"), "compare"
    ),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR"), "logical"),
    **dict.fromkeys(("SELECT", "SELECT_V2"), "select"),
    **dict.fromkeys(("SUM", "MEAN"), "sum"),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), "slice"),
    **dict.fromkeys(("RESHAPE", "EXPAND_DIMS", "SQUEEZE"), "reshape"),
    **dict.fromkeys(("SPLIT", "SPLIT_V", "UNPACK"), "split"),
}  # fmt: skip
_BINARY = {
    "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "DIV", "GREATER",
    "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL", "POW",
}  # fmt: skip
# Tiles of a matrix product, rows and columns that one inner loop computes at once: about what
# NEON and AVX2 kernels take, and what AVX-512 kernels take. A profile's rates are fitted to both
# counts, and the better one explains the time.
_ROWS, _LANES = 4, 16
_WIDE_ROWS, _WIDE_LANES = 7, 32
# XNNPACK multiplies by constant weights in tiles of half the width where those leave less empty: a
# vector always, a matrix where there is one tile only. Such a tile takes a matrix 0.6 of a whole
# one's time, and a vector, which waits for the weights, all of it (measured on AVX2).
_HALF_LANES, _HALF_TILE = _LANES // 2, 0.6
_WINDOW = 36  # taps


class Runs(NamedTuple):
    """How often the loops of a kernel run."""

    inner: float = 0.0  # steps over narrow tiles; taps; contiguous stretches
    wide: float = 0.0  # steps over wide tiles
    outer: float = 0.0  # tiles started; numbers gathered by the runtime's own convolutions; ends
    variant: str = ""  # tells apart kernels of one op


def kernel(
    name: str,
    op_class: OpClass,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    options: Any,
    *,
    delegated: bool,
) -> tuple[str, Runs]:
    """Name of the kernel that computes an op, and its runs.

    Args:
        name: the builtin's name in the schema.
        op_class: its class.
        inputs: operands in the op's order; what the file holds of axes and permutations in them.
        outputs: results in the op's order.
        options: the op's unpacked ``builtinOptions``.
        delegated: whether XNNPACK computes it.

    Returns:
        the name, and how often the kernel's loops run.
    """
    family = f"{op_class}.{_SAME.get(name, name.lower())}"
    if op_class in ("conv", "matmul"):
        runs = _product_runs(name, inputs, outputs, options, delegated)
    else:
        inner, variant = _runs(name, op_class, inputs, outputs, options)
        runs = Runs(inner=float(inner), outer=_ends(name, inputs, outputs), variant=variant)
    return ".".join(filter(None, [family, runs.variant, "" if delegated else "plain"])), runs


def _runs(
    name: str,
    op_class: OpClass,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    options: Any,
) -> tuple[float, str]:
    if name in _BINARY:
        runs = _broadcast_runs(inputs, outputs[0])
        return (runs, "") if runs == 1 else (runs, "broadcast")
    if name in ("SUM", "MEAN"):
        return _reduce_runs(inputs)
    if name == "TRANSPOSE":
        return _transpose_runs(inputs)
    if name == "SOFTMAX":
        return outputs[0].elements / max(outputs[0].shape[-1], 1), ""
    if name in ("SLICE", "STRIDED_SLICE", "PAD"):
        return _cut_runs(inputs[0].shape, outputs[0].shape), ""
    if name in ("CONCATENATION", "SPLIT", "SPLIT_V", "PACK", "UNPACK", "TILE"):
        parts = inputs if name in ("CONCATENATION", "PACK") else outputs
        whole = outputs[0] if name in ("CONCATENATION", "PACK") else inputs[0]
        if name == "SPLIT":
            whole = inputs[1]
        return sum(_cut_runs(whole.shape, part.shape) for part in parts), ""
    if name == "DEPTHWISE_CONV_2D":
        height, width = inputs[1].shape[1:3]
        out = outputs[0].shape
        return prod(out[:-1]) * _panels(out[-1]) * height * width, ""
    if op_class == "pool":
        taps = options.filterHeight * options.filterWidth
        return outputs[0].elements / outputs[0].shape[-1] * taps * _panels(outputs[0].shape[-1]), ""
    return 0.0, ""


def _ends(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """Taps of a window that end with part of a panel of channels, which takes a path of its own."""
    if name not in ("DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D"):
        return 0.0
    out = outputs[0].shape
    if out[-1] % _LANES == 0:
        return 0.0
    taps = prod(inputs[1].shape[1:3]) if name == "DEPTHWISE_CONV_2D" else 1
    return float(prod(out[:-1]) * taps)


def _panels(width: int) -> int:
    return -(-width // _LANES)


def _product_runs(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    options: Any,
    delegated: bool,
) -> Runs:
    """Loops of a matrix product; a convolution is one of a row per pixel of its results."""
    out = outputs[0].shape
    batches, taps, variant = 1, 1, ""
    if name == "FULLY_CONNECTED":
        columns, depth = inputs[1].shape
        rows = outputs[0].elements // max(columns, 1)
    elif name == "BATCH_MATMUL":
        left, right = inputs[0].shape, inputs[1].shape
        rows, columns = out[-2] if len(out) > 1 else 1, out[-1]
        depth = left[-2] if options.adjX else left[-1]
        batches = outputs[0].elements // max(rows * columns, 1)
        if prod(right[:-2]) == 1:  # one right-hand side for all: one tall product
            rows, batches = rows * batches, 1
        variant = "turned" if options.adjX else ""
    elif name == "CONV_2D":
        rows, columns = prod(out[:-1]), out[-1]
        taps = prod(inputs[1].shape[1:3])
        depth = taps * inputs[1].shape[3]
        variant = "pointwise" if taps == 1 else ""
        if taps >= _WINDOW and not delegated:
            variant = "window"  # the gradient of a filter: few results, each of a long sum
    else:
        return Runs()
    across = float(_panels(columns))
    if delegated and name != "BATCH_MATMUL":
        halves = -(-columns // _HALF_LANES)
        if rows == 1:
            variant = f"{variant}.row" if variant else "row"  # a matrix times a vector
            across = float(halves) if 0 < columns % _LANES <= _HALF_LANES else across
        elif columns < _LANES:
            across = _HALF_TILE * halves
    tiles = batches * -(-rows // _ROWS) * across
    wide = batches * -(-rows // _WIDE_ROWS) * -(-columns // _WIDE_LANES)
    outer = tiles * taps if delegated else batches * rows * depth
    return Runs(float(tiles * depth), float(wide * depth), float(outer), variant)


def _broadcast_runs(inputs: Sequence[Tensor], output: Tensor) -> float:
    """Elements over the longest stretch in which each operand stands still or moves on."""
    rank = len(output.shape)
    shapes = [(1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in inputs[:2]]
    inner, pattern = 1, None
    for axis in reversed(range(rank)):
        size = output.shape[axis]
        if size == 1:
            continue
        here = tuple(shape[axis] == 1 for shape in shapes)
        if pattern not in (None, here):
            break
        pattern, inner = here, inner * size
    return output.elements / max(inner, 1)


def _reduce_runs(inputs: Sequence[Tensor]) -> tuple[float, str]:
    shape = inputs[0].shape
    rank = len(shape)
    axes = {axis % rank for axis in inputs[1].values} if rank and len(inputs) > 1 else set()
    moving = [axis for axis in range(rank) if shape[axis] > 1]
    inner = 1
    if moving and moving[-1] not in axes:
        for axis in reversed(moving):
            if axis in axes:
                break
            inner *= shape[axis]
        return inputs[0].elements / inner, "columns"
    for axis in reversed(moving):
        if axis not in axes:
            break
        inner *= shape[axis]
    return inputs[0].elements / max(inner, 1), "rows"


def _transpose_runs(inputs: Sequence[Tensor]) -> tuple[float, str]:
    shape, order = inputs[0].shape, inputs[1].values
    if len(order) != len(shape):
        return float(inputs[0].elements), ""
    # Axes of size 1 do not matter, nor do neighbours that stay neighbours.
    real = [axis for axis in order if shape[axis] > 1]
    if real == sorted(real):
        return 1.0, "still"
    inner = 1
    for place, axis in enumerate(reversed(real)):
        if axis != sorted(real)[-1 - place]:
            break
        inner *= shape[axis]
    return inputs[0].elements / inner, "" if inner == 1 else "blocks"


def _cut_runs(whole: Sequence[int], part: Sequence[int]) -> float:
    """Contiguous stretches in which a part of a tensor, or the tensor in a larger one, lies."""
    if len(whole) != len(part):
        return 1.0
    small = [min(pair) for pair in zip(whole, part, strict=True)]
    inner = 1
    for axis in reversed(range(len(small))):
        inner *= small[axis]
        if whole[axis] != part[axis]:
            break
    return prod(small) / max(inner, 1)
