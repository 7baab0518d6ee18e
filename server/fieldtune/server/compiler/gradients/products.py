"""Gradients of matrix products, without transposing a matrix."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.registry import gradient


@gradient("MatMul")
def matmul(op: Any, dy: Any) -> tuple[Any, Any]:
    """``dy b^T`` and ``a^T dy``, and their like where an operand is transposed."""
    a, b = op.inputs
    flips = op.get_attr("transpose_a"), op.get_attr("transpose_b")
    if flips == (False, False):
        return product(dy, b, turn_b=True), product(a, dy, turn_a=True)
    if flips == (False, True):
        return product(dy, b), product(dy, a, turn_a=True)
    if flips == (True, False):
        return product(b, dy, turn_b=True), product(a, dy)
    return product(b, dy, turn_a=True, turn_b=True), product(dy, a, turn_a=True, turn_b=True)


def product(a: Any, b: Any, *, turn_a: bool = False, turn_b: bool = False) -> Any:
    """The product of two matrices, each perhaps transposed first.

    With a transposed second matrix the converter would make it FULLY_CONNECTED, which XNNPACK
    leaves to a kernel that takes four times as long unless the matrix is a constant: a batch of one
    product stays BATCH_MATMUL. A column times one number would become MUL, which the runtimes'
    planner lets write over its input even where that is another view of numbers still needed
    (seen in tflite-runtime 2.14 and ai-edge-litert 2.3): a column of zeros keeps it a product.
    """
    if b.shape == (1, 1) and not turn_b:
        a = tf.pad(a, [[0, 1], [0, 0]] if turn_a else [[0, 0], [0, 1]])
        b = tf.pad(b, [[0, 1], [0, 0]])
    if not turn_b:
        return tf.matmul(a, b, transpose_a=turn_a)
    one = [tf.reshape(t, [1, *t.shape]) for t in (a, b)]
    out = tf.matmul(*one, transpose_a=turn_a, transpose_b=True)
    return tf.reshape(out, out.shape[1:])
