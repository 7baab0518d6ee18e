"""Which kernel computes an op, and how often the kernel's loops run.

Ops of one class may be computed by kernels that differ tenfold in speed: XNNPACK's or the runtime's
built-in one, a 1x1 or a 5x5 convolution, an addition of equal shapes or of a row to a matrix. A
kernel's name consists of its class and more specific parts, separated by dots: ``conv``,
``conv.conv_2d``, ``conv.conv_2d.plain`` (``plain``: built into the runtime, not XNNPACK's). A
profile that lacks a kernel can so fall back to a prefix of its name. Kernel detection follows
nn-Meter (Zhang et al., MobiSys 2021, section 4), but uses the runtime's rules instead of test
cases.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from fieldtune.profiles.costmodel.flops import OpClass, Tensor

# Ops that share one kernel and one speed.
_SHARED_KERNEL = {
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
# Tiles of a matrix product: rows and columns that one inner loop computes at once. First those of
# the AVX2 kernels (NEON's are similar; convolutions with a window have fewer rows), then those of
# AVX-512. A profile's rates are fitted to both counts, and the fit selects the one that explains
# the time.
_ROWS, _WINDOW_ROWS, _LANES = 6, 5, 16
_WIDE_ROWS, _WIDE_LANES = 7, 32
# With constant weights XNNPACK uses tiles of half the width if these waste fewer lanes. Such a tile
# takes 0.6 times as long per step as a full one (measured on AVX2). A matrix-vector product is
# bound by the latency of dependent additions, whatever the width; the end of one tile's sum
# overlaps with the start of the next by this many additions, but at most by this share of the sum.
_HALF_LANES, _HALF_TILE = _LANES // 2, 0.6
_OVERLAP, _OVERLAPPING = 20.0, 1 / 3
# Tiles of XNNPACK's NEON kernels, whatever the shape, and of a product of one row.
_NEON_ROWS, _NEON_LANES = 6, 8
# Eigen's tiles, and the time of a leftover column as a share of a panel's time.
_PLAIN_ROWS, _PLAIN_LANES, _PLAIN_REST = 4, 8, 0.2
_WINDOW = 36  # taps
# Depthwise and pooling kernels: channels per step, and the numbers of taps they are built for.
_CHANNELS = 8
_DEPTHWISE_TAPS = (3, 4, 9, 25)
_POOL_TAPS = (9, 8)  # of the first pass, and of each further pass


class Runs(NamedTuple):
    """How often the loops of a kernel run."""

    inner: float = 0.0  # steps over narrow tiles; taps; contiguous stretches
    wide: float = 0.0  # steps over wide tiles
    outer: float = 0.0  # taps of tiles; packing steps; values gathered by im2col; leftover taps
    starts: float = 0.0  # tiles, or panels of channels at a pixel
    variant: str = ""  # distinguishes the kernels of one op
    neon: float = 0.0  # steps over tiles of XNNPACK's kernels for ARM


def kernel(
    name: str,
    op_class: OpClass,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    options: Any,
    *,
    delegated: bool,
) -> tuple[str, Runs]:
    """Name of the kernel that computes an op, and its loop counts.

    Args:
        name: the builtin's name in the schema.
        op_class: its class.
        inputs: operands in the op's order; axes and permutations with their constant values.
        outputs: results in the op's order.
        options: the op's unpacked ``builtinOptions``.
        delegated: whether XNNPACK computes it.

    Returns:
        the name, and the numbers of iterations of the kernel's loops.
    """
    family = f"{op_class}.{_SHARED_KERNEL.get(name, name.lower())}"
    if op_class in ("conv", "matmul"):
        runs = _product_runs(name, inputs, outputs, options, delegated)
    else:
        inner, variant = _runs(name, op_class, inputs, outputs, options)
        outer, starts = _windows(name, inputs, outputs)
        runs = Runs(float(inner), 0.0, outer, starts, variant)
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
        return _slice_runs(inputs[0].shape, outputs[0].shape), ""
    if name in ("CONCATENATION", "SPLIT", "SPLIT_V", "PACK", "UNPACK", "TILE"):
        parts = inputs if name in ("CONCATENATION", "PACK") else outputs
        whole = outputs[0] if name in ("CONCATENATION", "PACK") else inputs[0]
        if name == "SPLIT":
            whole = inputs[1]
        return sum(_slice_runs(whole.shape, part.shape) for part in parts), ""
    if name == "DEPTHWISE_CONV_2D":
        taps = prod(inputs[1].shape[1:3])
        taps, many = next(((n, "") for n in _DEPTHWISE_TAPS if taps <= n), (taps, "window"))
        return _panels(outputs[0]) * taps, many
    if op_class == "pool":
        first, more = _POOL_TAPS
        beyond = max(options.filterHeight * options.filterWidth - first, 0)
        return _panels(outputs[0]) * (first + more * -(-beyond // more)), ""
    return 0.0, ""


def _windows(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[float, float]:
    """Taps that end in a partial panel of channels (a separate code path), and number of panels."""
    if name not in ("DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D"):
        return 0.0, 0.0
    out, ends = outputs[0].shape, 0
    if out[-1] % _CHANNELS:
        ends = prod(out[:-1]) * (prod(inputs[1].shape[1:3]) if name == "DEPTHWISE_CONV_2D" else 1)
    return float(ends), float(_panels(outputs[0]))


def _panels(output: Tensor) -> int:
    """Pixels times channel panels per pixel."""
    return prod(output.shape[:-1]) * -(-output.shape[-1] // _CHANNELS)


def _product_runs(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    options: Any,
    delegated: bool,
) -> Runs:
    """Loops of a matrix product; a convolution is one with a row per output pixel."""
    out = outputs[0].shape
    batches, taps, variant, gathered = 1, 1, "", False
    if name == "FULLY_CONNECTED":
        columns, depth = inputs[1].shape
        rows = outputs[0].elements // max(columns, 1)
    elif name == "BATCH_MATMUL":
        left, right = inputs[0].shape, inputs[1].shape
        rows, columns = out[-2] if len(out) > 1 else 1, out[-1]
        depth = left[-2] if options.adjX else left[-1]
        batches = outputs[0].elements // max(rows * columns, 1)
        if prod(right[:-2]) == 1:  # a shared right-hand side makes it one tall product
            rows, batches = rows * batches, 1
        variant = "turned" if options.adjX else ""
    elif name == "CONV_2D":
        rows, columns = prod(out[:-1]), out[-1]
        taps = prod(inputs[1].shape[1:3])
        depth = taps * inputs[1].shape[3]
        # The runtime's built-in kernel gathers its input (im2col) for a window or a stride.
        gathered = not delegated and (taps > 1 or prod(inputs[0].shape[1:3]) > prod(out[1:3]))
        variant = "" if taps > 1 else "strided" if gathered else "pointwise"
        if taps >= _WINDOW and not delegated:
            variant = "window"  # the gradient of a filter: few results, each of a long sum
    else:
        return Runs()
    if not delegated:
        return _plain_runs(batches * rows, columns, depth, variant, gathered)
    # A product of one row has a kernel of one row.
    down = -(-rows // _NEON_ROWS) if rows > 1 else 1 / _NEON_ROWS
    neon = batches * down * -(-columns // _NEON_LANES) * float(depth)
    panels = -(-columns // _LANES)
    halves = -(-columns // _HALF_LANES)
    share = 1.0
    if name != "BATCH_MATMUL":
        if columns < _LANES or (taps == 1 and halves < 2 * panels):
            panels, share = halves, _HALF_TILE
        if rows == 1:
            overlap = min(_OVERLAP, _OVERLAPPING * depth)
            steps = panels * (depth - overlap) + overlap
            variant = f"{variant}.row" if variant else "row"  # a matrix times a vector
            return Runs(steps, outer=float(panels * taps), variant=variant, neon=neon)
    tiles = batches * -(-rows // (_ROWS if taps == 1 else _WINDOW_ROWS)) * panels
    steps = tiles * share * depth
    wide = float(batches * -(-rows // _WIDE_ROWS) * -(-columns // _WIDE_LANES) * depth)
    # If both operands are computed, the right-hand side is packed in each call.
    outer = batches * panels * depth if name == "BATCH_MATMUL" else tiles * taps * (taps > 1)
    return Runs(steps, wide, float(outer), float(tiles), variant, neon)


def _plain_runs(rows: int, columns: int, depth: int, variant: str, gathered: bool) -> Runs:
    """Loops of the runtime's built-in products (Eigen); matrix-vector products have their own."""
    if rows == 1:
        return Runs(variant=f"{variant}.row" if variant else "row")
    down = rows // _PLAIN_ROWS + rows % _PLAIN_ROWS  # leftover rows are computed one by one
    across = columns // _PLAIN_LANES + _PLAIN_REST * (columns % _PLAIN_LANES)
    return Runs(
        down * across * depth,
        outer=float((rows + columns) * depth),  # both sides are packed
        starts=float(rows if gathered else down * across),
        variant=variant,
    )


def _broadcast_runs(inputs: Sequence[Tensor], output: Tensor) -> float:
    """Number of inner loops, each over the longest run in which no operand changes its stride."""
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
    # Axes of size 1 do not matter, nor do axes that stay adjacent.
    real = [axis for axis in order if shape[axis] > 1]
    if real == sorted(real):
        return 1.0, "still"
    inner = 1
    for place, axis in enumerate(reversed(real)):
        if axis != sorted(real)[-1 - place]:
            break
        inner *= shape[axis]
    return inputs[0].elements / inner, "" if inner == 1 else "blocks"


def _slice_runs(whole: Sequence[int], part: Sequence[int]) -> float:
    """Number of contiguous runs that a slice of a tensor consists of."""
    if len(whole) != len(part):
        return 1.0
    small = [min(pair) for pair in zip(whole, part, strict=True)]
    inner = 1
    for axis in reversed(range(len(small))):
        inner *= small[axis]
        if whole[axis] != part[axis]:
            break
    return prod(small) / max(inner, 1)
