"""Gradients of pooling, any window, stride and padding.

A window cell ``(i, j)`` touches the inputs at ``(i, j) + stride * position``: a grid of their own
for each remainder of ``(i, j)`` by the stride. What the cells give is added up per grid (cells a
whole number of strides apart share one, shifted), and the grids are interleaved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fieldtune.server.compiler.gradients.geometry import every, fit, pad, window_padding
from fieldtune.server.compiler.gradients.registry import gradient


@gradient("MaxPool")
def max_pool(op: Any, dy: Any) -> Any:
    """The first maximum of a window, in row-major order, takes its gradient, as in TensorFlow."""
    y = op.outputs[0]
    window = _Window(op)
    x = window.pad(op.inputs[0], op.inputs[0].dtype.min)
    cells = {}
    free = None
    for i, j in window.cells:
        hit = tf.cast(tf.equal(window.seen(x, i, j), y), dy.dtype)
        if free is None:
            free = 1.0 - hit
        else:
            hit = hit * free
            free = free - hit
        cells[i, j] = hit * dy
    return window.gather(lambda i, j: cells[i, j])


@gradient("AvgPool")
def average_pool(op: Any, dy: Any) -> Any:
    """Each cell of a window takes an equal share; padding does not count as a cell."""
    window = _Window(op)
    counts = np.outer(window.counts(0), window.counts(1)).astype(np.float32)
    share = 1.0 / counts[None, :, :, None]
    given = dy * (share if share.min() < share.max() else float(share.max()))
    return window.gather(lambda i, j: given)


class _Window:
    """The geometry of one pooling op (NHWC)."""

    def __init__(self, op: Any) -> None:
        x, y = op.inputs[0], op.outputs[0]
        self.batch, self.channels = x.shape[0], x.shape[3]
        self.size = (x.shape[1], x.shape[2])
        self.positions = (y.shape[1], y.shape[2])
        self.window = tuple(op.get_attr("ksize")[1:3])
        self.stride = tuple(op.get_attr("strides")[1:3])
        self.before = tuple(
            window_padding(op, axis + 1, self.size[axis], self.window[axis], self.stride[axis])[0]
            for axis in (0, 1)
        )
        self.cells = [(i, j) for i in range(self.window[0]) for j in range(self.window[1])]
        # Grid points per axis: the positions and the shifts of cells beyond one stride.
        self.grid = tuple(
            self.positions[axis] + (self.window[axis] - 1) // self.stride[axis] for axis in (0, 1)
        )

    def counts(self, axis: int) -> NDArray[np.int64]:
        """How many cells of the window at each position lie inside the input."""
        first = np.arange(self.positions[axis]) * self.stride[axis] - self.before[axis]
        last = np.minimum(first + self.window[axis], self.size[axis])
        counts: NDArray[np.int64] = last - np.maximum(first, 0)
        return counts

    def pad(self, x: Any, value: float) -> Any:
        """The input with everything around it that a window can touch."""
        pads = [[0, 0]]
        for axis in (0, 1):
            # A whole stride after the last position, as ``every`` needs it.
            reach = self.grid[axis] * self.stride[axis]
            after = max(reach - self.before[axis] - self.size[axis], 0)
            pads.append([self.before[axis], after])
        return pad(x, [*pads, [0, 0]], value)

    def seen(self, x: Any, i: int, j: int) -> Any:
        """What cell (i, j) of each window sees of the padded input: ``[n, h, w, c]``."""
        (h, w), (sh, sw) = self.positions, self.stride
        return every(every(x, i, h, sh, 1), j, w, sw, 2)

    def gather(self, cell: Callable[[int, int], Any]) -> Any:
        """The input's gradient from what each cell gives (``[n, h, w, c]`` each)."""
        (sh, sw), (gh, gw) = self.stride, self.grid
        rows = []
        for row in range(sh):
            columns = [self._grid(cell, row, column) for column in range(sw)]
            wide = columns[0]
            if sw > 1:
                stacked = tf.stack(columns, 3)
                wide = tf.reshape(stacked, [self.batch, gh, gw * sw, self.channels])
            rows.append(wide)
        full = rows[0]
        if sh > 1:
            stacked = tf.stack(rows, 2)
            full = tf.reshape(stacked, [self.batch, gh * sh, gw * sw, self.channels])
        (top, left), (height, width) = self.before, self.size
        return fit(full, (top, height), (left, width))

    def _grid(self, cell: Callable[[int, int], Any], row: int, column: int) -> Any:
        (kh, kw), (sh, sw), (gh, gw) = self.window, self.stride, self.grid
        total = None
        for i in range(row, kh, sh):
            for j in range(column, kw, sw):
                part = fit(cell(i, j), (-(i // sh), gh), (-(j // sw), gw))
                total = part if total is None else total + part
        if total is None:
            # A window smaller than its stride never sees these inputs.
            total = tf.zeros([self.batch, gh, gw, self.channels])
        return total
