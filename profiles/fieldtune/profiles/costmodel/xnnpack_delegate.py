"""Which ops of a graph the runtime delegates to XNNPACK, and in which partitions.

TFLite's interpreter delegates the float32 and int8 ops that XNNPACK supports; its kernels are
several times faster than the built-in ones, but each partition adds the overhead of a call. The
rules are those of tflite/delegates/xnnpack (ai-edge-litert 2.3). Partitioning is TFLite's greedy
algorithm (graph_info.cc): all ready ops of one kind (delegated or not), then all ready ops of the
other kind, and so on. Checked against the runtime's partitions of the training graphs of random
models.
"""

from collections.abc import Sequence
from typing import Literal

from fieldtune.profiles.costmodel.flops import Tensor

_ALWAYS = {
    "ABS", "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CEIL", "CONCATENATION", "COS",
    "DEPTH_TO_SPACE", "DIV", "ELU", "EXP", "EXPAND_DIMS", "FLOOR", "GELU", "HARD_SWISH",
    "LEAKY_RELU", "LOG", "LOGISTIC", "MAX_POOL_2D", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "NEG",
    "PAD", "PRELU", "READ_VARIABLE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RESHAPE",
    "RESIZE_BILINEAR", "ROUND", "RSQRT", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT",
    "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE",
    "VAR_HANDLE",
}  # fmt: skip
# Delegated only with constant weights: in a deployed model, not in a training graph.
_WITH_FIXED_WEIGHTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
# With int8 tensors.
_QUANTIZED = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "DEPTH_TO_SPACE", "ELU", "EXPAND_DIMS", "LEAKY_RELU",
    "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1",
    "RESHAPE", "RESIZE_BILINEAR", "SLICE", "SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "SUB",
    "TANH", "TRANSPOSE",
}  # fmt: skip
Precision = Literal["float32", "int8", "dynamic"]
"""``int8``: activations and weights; ``dynamic``: weights alone (dynamic-range quantisation)."""
_MAX_CONCATENATED = 5
_MAX_SPLIT = 4


def precision(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Precision:
    """The arithmetic of an op: of 8-bit integers, of floats, or of both.

    Args:
        name: the builtin's name in the schema.
        inputs: operands in the op's order.
        outputs: results in the op's order.
    """
    if any(tensor.type in ("INT8", "UINT8") for tensor in outputs):
        return "int8"
    small = any(tensor.constant and tensor.type in ("INT8", "INT4") for tensor in inputs)
    if small and all(tensor.type == "FLOAT32" for tensor in outputs):
        return "dynamic"
    return "float32"


def delegated(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether an op is delegated to XNNPACK.

    Args:
        name: the builtin's name in the schema.
        inputs: operands in the op's order.
        outputs: results in the op's order.
    """
    if name in ("VAR_HANDLE", "ASSIGN_VARIABLE"):
        return True
    if precision(name, inputs, outputs) == "int8":
        fixed = name in _WITH_FIXED_WEIGHTS and len(inputs) > 1 and inputs[1].constant
        return fixed or name in _QUANTIZED
    if name == "DEQUANTIZE":
        return all(tensor.type in ("INT8", "UINT8") for tensor in inputs)
    if any(tensor.type != "FLOAT32" for tensor in outputs):
        return False
    if name in _WITH_FIXED_WEIGHTS:
        # Of dynamic-range kernels XNNPACK has all but the depthwise one.
        kinds = ("FLOAT32",) if name == "DEPTHWISE_CONV_2D" else ("FLOAT32", "INT8", "INT4")
        return all(tensor.type in kinds for tensor in inputs[1:2]) and inputs[1].constant
    if name == "CONCATENATION":
        return len(inputs) <= _MAX_CONCATENATED
    if name == "SPLIT":
        return len(outputs) <= _MAX_SPLIT
    return name in _ALWAYS


def partitions(on_xnnpack: Sequence[bool], needs: Sequence[Sequence[int]]) -> list[int]:
    """The partition number of each op; consecutive partitions alternate between the two kinds.

    Args:
        on_xnnpack: for each op in order, whether it is delegated.
        needs: for each op, the ops whose results it reads.
    """
    partition_of = [-1] * len(on_xnnpack)
    remaining = list(range(len(on_xnnpack)))
    partition = 0
    while remaining:
        kind: bool | None = None
        later = []
        for op in remaining:
            if (kind is None or on_xnnpack[op] == kind) and all(
                partition_of[n] >= 0 for n in needs[op]
            ):
                kind = on_xnnpack[op]
                partition_of[op] = partition
            else:
                later.append(op)
        # Ops are in topological order, so one pass finds all that are ready.
        remaining = later
        partition += 1
    return partition_of
