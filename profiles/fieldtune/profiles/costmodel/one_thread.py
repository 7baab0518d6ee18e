"""The ops that one thread does alone, so that no thread waits for another.

XNNPACK hands an op to its threads in tiles (``src/operators``), and pthreadpool runs a single tile
in the calling thread (``src/portable-api.c``). A tile of a product has 6 rows and 8 columns or
more. Timed with ai-edge-litert 2.3 on x86-64: 200 ops of one tile take as long with two threads as
with one, to 1 %; a product of several tiles and few operations loses about a quarter of the time
that a large one loses.

Outside XNNPACK products below 2^17 operations have one thread (``kSizePerAdditionalThread`` in
ruy's ``trmul.cc``), and most other ops always. Only the smallest are counted so: with all of them,
published latencies of int8 networks are predicted worse.
"""

from fieldtune.profiles.costmodel.flops import OpClass
from fieldtune.profiles.costmodel.tflite_graph import Op

_ROWS, _COLUMNS = 6, 8
"""A tile of a product of XNNPACK, at least."""
_ELEMENTS = 1024
"""A tile of floats of an elementwise op of XNNPACK (4096 since 2025), and used for other ops."""
_LARGE = 2.0**15
"""Operations from which products of several tiles lose all that threads lose."""
_LEAST = 0.25
"""The share of it that the smallest products lose."""
_PRODUCTS = ("conv", "matmul", "depthwise")
_PLAIN_FLOPS, _PLAIN_ELEMENTS = 2.0**13, 64
"""Outside XNNPACK one thread does products of fewer operations, and other ops with a result of at
most so many elements."""


def one_thread_share(op: Op, op_class: OpClass, flops: float, *, delegated: bool) -> float:
    """The share of an op that one thread does alone: 0 to 1.

    Args:
        op: an op that is not done in place.
        op_class: its class.
        flops: its operations.
        delegated: whether XNNPACK computes it.
    """
    if op_class not in _PRODUCTS:
        whole = op.inputs[:1] if op_class in ("pool", "reduce") else op.outputs
        most = _ELEMENTS if delegated else _PLAIN_ELEMENTS
        return float(sum(tensor.elements for tensor in whole) <= most)
    if not delegated:
        return float(flops < _PLAIN_FLOPS)
    result = op.outputs[0]
    columns = result.shape[-1] if result.shape else 1
    tile = columns <= _COLUMNS and result.elements <= _ROWS * columns
    if tile and op_class != "depthwise":
        return 1.0
    return 1.0 - min(max(flops / _LARGE, _LEAST), 1.0)
