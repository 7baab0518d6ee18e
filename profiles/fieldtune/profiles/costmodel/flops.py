"""Floating-point operations and moved bytes of one TFLite op, from the shapes of its tensors.

A multiply-add counts as two operations. Moved bytes are the sizes of all inputs (constants
included) and outputs, as if nothing were cached. Caches are modelled elsewhere
(:mod:`fieldtune.profiles.costmodel.cache_reuse`, :mod:`fieldtune.profiles.costmodel.latency`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

OpClass = Literal[
    "matmul", "conv", "depthwise", "elementwise", "pool", "reduce", "move", "variable", "other"
]


@dataclass(frozen=True)
class Tensor:
    """Shape and TFLite type name (``FLOAT32``, ``INT8``, ...) of an op's operand."""

    shape: tuple[int, ...]
    type: str
    constant: bool = False  # its value is stored in the file
    values: tuple[int, ...] = ()  # content of a short int32 constant: axes, a permutation

    @property
    def elements(self) -> int:
        """Number of elements; 1 for rank 0."""
        return prod(self.shape)

    @property
    def bytes(self) -> float:
        """Size in bytes."""
        return self.elements * _TYPE_BYTES.get(self.type, 4.0)


@dataclass(frozen=True)
class OpCost:
    """Class, floating-point operations and moved bytes of one op."""

    op_class: OpClass
    flops: float
    moved_bytes: float


# RESOURCE and VARIANT are handles; READ_VARIABLE and ASSIGN_VARIABLE move the bytes.
_TYPE_BYTES = {
    "FLOAT64": 8.0, "INT64": 8.0, "UINT64": 8.0, "COMPLEX64": 8.0, "COMPLEX128": 16.0,
    "FLOAT16": 2.0, "BFLOAT16": 2.0, "INT16": 2.0, "UINT16": 2.0,
    "INT8": 1.0, "UINT8": 1.0, "BOOL": 1.0, "INT4": 0.5, "RESOURCE": 0.0, "VARIANT": 0.0,
}  # fmt: skip

# Operations per element: 1 for a single instruction, more for a division or a polynomial
# (about ten multiply-adds for an exponential in XNNPACK's and Eigen's vector code).
_CHEAP, _DIVIDE, _EXPONENTIAL, _SOFTMAX = 1.0, 5.0, 20.0, 25.0
_ELEMENTWISE = {
    **dict.fromkeys(
        (
            "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_N1_TO_1",
            "RELU_0_TO_1", "PRELU", "LEAKY_RELU", "ABS", "NEG", "SQUARE", "SQUARED_DIFFERENCE",
            "SIGN", "FLOOR", "CEIL", "ROUND", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL",
            "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "SELECT",
            "SELECT_V2", "WHERE", "CAST", "QUANTIZE", "DEQUANTIZE", "FAKE_QUANT", "ADD_N",
            "HARD_SWISH", "BITWISE_XOR",
        ),
        _CHEAP,
    ),
    **dict.fromkeys(("DIV", "SQRT", "RSQRT", "FLOOR_DIV", "FLOOR_MOD"), _DIVIDE),
    **dict.fromkeys(
        ("EXP", "LOG", "LOGISTIC", "TANH", "SIN", "COS", "POW", "ELU", "GELU", "ATAN2"),
        _EXPONENTIAL,
    ),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"), _SOFTMAX),
}  # fmt: skip
_POOL = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"}
_REDUCE = {
    "SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL",
    "ARG_MAX", "ARG_MIN", "CUMSUM", "TOPK_V2", "SEGMENT_SUM", "UNSORTED_SEGMENT_SUM",
}  # fmt: skip
_MOVE = {
    "RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "CONCATENATION", "PACK", "EXPAND_DIMS",
    "SQUEEZE", "BROADCAST_TO", "TILE", "FILL", "ZEROS_LIKE", "ONE_HOT", "DILATE", "REVERSE_V2",
    "REVERSE_SEQUENCE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "SPACE_TO_DEPTH",
    "DEPTH_TO_SPACE", "SCATTER_ND", "SHAPE", "RANGE", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR",
    "DYNAMIC_UPDATE_SLICE", "BROADCAST_ARGS", "RANK",
}  # fmt: skip
# These read only the part of their first operand that they output.
_PICK = {
    "SLICE", "STRIDED_SLICE", "GATHER", "GATHER_ND", "EMBEDDING_LOOKUP", "SPLIT", "SPLIT_V",
    "UNPACK",
}  # fmt: skip
_VARIABLE = {"VAR_HANDLE", "CALL_ONCE", "READ_VARIABLE", "ASSIGN_VARIABLE"}
_RECURRENT = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "RNN",
    "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN",
}  # fmt: skip


def op_cost(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any) -> OpCost:
    """FLOPs and moved bytes of one op.

    Args:
        name: the builtin's name in the schema, such as ``CONV_2D``.
        inputs: operands in the op's order, constants included, without absent optional ones.
        outputs: results in the op's order.
        options: the op's unpacked ``builtinOptions``; read for pooling windows and transpositions.

    Returns:
        its class, FLOPs and moved bytes; an unknown op has class ``other`` and one operation per
        element of its results.
    """
    moved = sum(tensor.bytes for tensor in (*inputs, *outputs))
    results = sum(tensor.elements for tensor in outputs)
    if name in _VARIABLE:
        # Copied: read once, written once.
        return OpCost("variable", 0.0, 2.0 * moved)
    if name in _MOVE:
        return OpCost("move", 0.0, moved)
    if name in _PICK:
        return OpCost("move", 0.0, 2.0 * sum(tensor.bytes for tensor in outputs))
    if name in _ELEMENTWISE:
        return OpCost("elementwise", _ELEMENTWISE[name] * results, moved)
    if name in _REDUCE:
        return OpCost("reduce", float(inputs[0].elements), moved)
    if name in _POOL:
        return OpCost("pool", float(results * options.filterHeight * options.filterWidth), moved)
    multiplied = _multiply_adds(name, inputs, outputs, options)
    if multiplied is not None:
        op_class, multiply_adds, has_bias = multiplied
        return OpCost(op_class, 2.0 * multiply_adds + (results if has_bias else 0), moved)
    return OpCost("other", float(results), moved)


def _multiply_adds(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any
) -> tuple[OpClass, int, bool] | None:
    """Class, multiply-adds and whether a bias is added; ``None`` for ops without multiply-adds.

    Filter layouts of the TFLite schema: ``[out, in]`` for FULLY_CONNECTED,
    ``[out, height, width, in]`` for CONV_2D and TRANSPOSE_CONV, ``[1, height, width, out]`` for
    DEPTHWISE_CONV_2D, ``[depth, height, width, in, out]`` for CONV_3D.
    """
    has_bias = len(inputs) > 2
    if name == "FULLY_CONNECTED":
        return "matmul", outputs[0].elements * inputs[1].shape[-1], has_bias
    if name == "BATCH_MATMUL":
        left = inputs[0].shape
        return "matmul", outputs[0].elements * (left[-2] if options.adjX else left[-1]), False
    if name == "CONV_2D":
        return "conv", outputs[0].elements * prod(inputs[1].shape[1:]), has_bias
    if name == "CONV_3D":
        return "conv", outputs[0].elements * prod(inputs[1].shape[:-1]), has_bias
    if name == "DEPTHWISE_CONV_2D":
        return "depthwise", outputs[0].elements * prod(inputs[1].shape[1:3]), has_bias
    if name == "TRANSPOSE_CONV":  # operands: output shape, filter, input, bias
        return "conv", inputs[2].elements * prod(inputs[1].shape[:3]), len(inputs) > 3
    if name in _RECURRENT:
        # Each matrix operand is applied once per step of each sequence.
        matrices = sum(tensor.elements for tensor in inputs[1:] if len(tensor.shape) == 2)
        return "matmul", matrices * prod(outputs[0].shape[:-1]), False
    return None
