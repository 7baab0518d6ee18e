"""Which ops of a graph the runtime hands to XNNPACK, and into how many partitions.

TFLite's interpreter gives the float32 ops that XNNPACK knows to its delegate, whose kernels are
several times faster than the built-in ones; each partition costs a call of its own. The rules are
those of tflite/delegates/xnnpack (ai-edge-litert 2.3), the partitioning is TFLite's greedy
algorithm (graph_info.cc): all the ops of one kind that are ready, then all of the other kind, ...
Checked against what the runtime did with the training graphs of random models.
"""

from collections.abc import Sequence

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
# Their weights must be constants of the file: those of a deployed model, not of one that trains.
_WITH_FIXED_WEIGHTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
_MOST_CONCATENATED = 5
_MOST_SPLIT = 4


def delegated(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether XNNPACK takes an op.

    Args:
        name: the builtin's name in the schema.
        inputs: operands in the op's order.
        outputs: results in the op's order.
    """
    if name in ("VAR_HANDLE", "ASSIGN_VARIABLE"):
        return True
    if any(tensor.type != "FLOAT32" for tensor in outputs):
        return False
    if name in _WITH_FIXED_WEIGHTS:
        return all(tensor.type == "FLOAT32" for tensor in inputs[1:2]) and inputs[1].constant
    if name == "CONCATENATION":
        return len(inputs) <= _MOST_CONCATENATED
    if name == "SPLIT":
        return len(outputs) <= _MOST_SPLIT
    return name in _ALWAYS


def partitions(taken: Sequence[bool], needs: Sequence[Sequence[int]]) -> list[int]:
    """The partition of each op: even and odd numbers alternate between the two kinds.

    Args:
        taken: for each op in order, whether XNNPACK takes it.
        needs: for each op, the ops whose results it needs.
    """
    place = [-1] * len(taken)
    left = list(range(len(taken)))
    epoch = 0
    while left:
        kind: bool | None = None
        later = []
        for op in left:
            if (kind is None or taken[op] == kind) and all(place[n] >= 0 for n in needs[op]):
                kind = taken[op]
                place[op] = epoch
            else:
                later.append(op)
        # Ops stand in an order in which they can run, so one pass finds all that are ready.
        left = later
        epoch += 1
    return place
