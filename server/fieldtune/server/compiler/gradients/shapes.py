"""Gradients of ops that move data."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.geometry import pad
from fieldtune.server.compiler.gradients.registry import gradient, unsupported


@gradient("StridedSlice")
def strided_slice(op: Any, dy: Any) -> tuple[Any, None, None, None]:
    """Zeros around what was cut out (steps of 1)."""
    x = op.inputs[0]
    begin, end, step = (tf.get_static_value(t) for t in op.inputs[1:])
    masks = {
        name: op.get_attr(f"{name}_mask")
        for name in ("begin", "end", "shrink_axis", "new_axis", "ellipsis")
    }
    if begin is None or end is None or step is None or any(int(s) != 1 for s in step):
        raise unsupported(op, "a slice with steps or computed ends", "use fixed ends and step 1")
    if masks["new_axis"] or masks["ellipsis"]:
        raise unsupported(op, "a slice with '...' or a new axis", "write out every axis")
    pads, kept = [], []
    for axis, size in enumerate(x.shape.as_list()):
        low, high = 0, size
        if axis < len(begin):
            bit = 1 << axis
            if not masks["begin"] & bit:
                low = int(begin[axis]) + (size if begin[axis] < 0 else 0)
            if masks["shrink_axis"] & bit:
                high = low + 1
            elif not masks["end"] & bit:
                high = int(end[axis]) + (size if end[axis] < 0 else 0)
            low, high = max(low, 0), min(high, size)
        pads.append([low, size - high])
        kept.append(high - low)
    return pad(tf.reshape(dy, kept), pads), None, None, None
