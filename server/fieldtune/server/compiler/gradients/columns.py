"""What each window of a convolution sees, as a matrix."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.geometry import every, pad
from fieldtune.server.compiler.gradients.products import product

_FEW = 4
"""Channels up to which the positions of one tap, not the channels, are what lies side by side."""

_SOME = 16
"""Channels up to which only the taps of a row are gathered, and each row of the filter has columns
of its own in the product: the results of the rows are shifted and added. Wider products are faster,
and the matrix is smaller."""

_SMALL = 64
"""Taps up to which it is worth a slice for each."""


class Columns:
    """The windows over a padded image, flattened: a matrix of positions by taps and channels.

    Args:
        padded: ``[n, h, w, c]``, reaching as far as :func:`every` needs it.
        window: taps by axis.
        positions: of the window by axis.
        stride: between positions.
        dilation: between taps.
    """

    def __init__(
        self,
        padded: Any,
        window: tuple[int, int],
        positions: tuple[int, ...],
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> None:
        self.shifted = False
        self.across = padded.shape[3] <= _FEW and 1 < math.prod(window) <= _SMALL
        if self.across:
            self.matrix = _taps_by_positions(padded, window, positions, stride, dilation)
            return
        seen = padded
        self.rows, self.step = window[0], dilation[0]
        # Worth it where a few more rows than positions are little.
        self.shifted = (
            stride[0] == 1 < window[0]
            and padded.shape[3] <= _SOME
            and padded.shape[1] >= 4 * (window[0] - 1) * dilation[0]
        )
        for axis in (1,) if self.shifted else (1, 0):
            taps = [
                every(seen, tap * dilation[axis], positions[axis], stride[axis], axis + 1)
                for tap in range(window[axis])
            ]
            seen = tf.concat(taps, 3) if len(taps) > 1 else taps[0]
        self.shape = [seen.shape[0], positions[0], positions[1]]
        self.matrix = tf.reshape(seen, [-1, seen.shape[3]])

    def times(self, w: Any) -> Any:
        """The convolution: ``[positions, out]`` for a filter ``[taps * channels, out]``."""
        if not self.shifted:
            return product(self.matrix, w, turn_a=self.across)
        out = w.shape[1]
        turned = tf.transpose(tf.reshape(w, [self.rows, -1, out]), [1, 0, 2])
        n, rows, columns = self.shape
        each = product(self.matrix, tf.reshape(turned, [-1, self.rows * out]))
        each = tf.reshape(each, [n, rows + (self.rows - 1) * self.step, columns, self.rows * out])
        total = None
        for row in range(self.rows):
            begin = [0, row * self.step, 0, row * out]
            part = tf.slice(each, begin, [n, rows, columns, out])
            total = part if total is None else total + part
        return tf.reshape(total, [-1, out])

    def filter(self, dy: Any) -> Any:
        """The filter's gradient ``[taps * channels, out]`` for ``dy`` ``[positions, out]``."""
        if not self.shifted:
            return product(self.matrix, dy, turn_a=not self.across)
        out, room = dy.shape[1], (self.rows - 1) * self.step
        dy = tf.reshape(dy, [*self.shape, out])
        moved = [
            pad(dy, [[0, 0], [row * self.step, room - row * self.step], [0, 0], [0, 0]])
            for row in range(self.rows)
        ]
        flat = tf.reshape(tf.concat(moved, 3), [-1, self.rows * out])
        each = product(self.matrix, flat, turn_a=True)
        turned = tf.transpose(tf.reshape(each, [-1, self.rows, out]), [1, 0, 2])
        return tf.reshape(turned, [-1, out])


def _taps_by_positions(
    padded: Any,
    window: tuple[int, int],
    positions: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Any:
    n, height, width, channels = padded.shape
    image = padded
    if channels > 1:
        image = tf.transpose(tf.reshape(padded, [-1, channels]))
    image = tf.reshape(image, [channels * n, height, width, 1])
    (sh, sw), (rows, columns) = stride, positions
    grids = {
        (i, j): every(every(image, i, height // sh, sh, 1), j, width // sw, sw, 2)
        for i in range(sh)
        for j in range(sw)
    }
    taps = []
    for row in range(0, window[0] * dilation[0], dilation[0]):
        for column in range(0, window[1] * dilation[1], dilation[1]):
            grid = grids[row % sh, column % sw]
            size = [channels * n, rows, columns, 1]
            tap = tf.slice(grid, [0, row // sh, column // sw, 0], size)
            taps.append(tf.reshape(tap, [channels, n * rows * columns]))
    return tf.concat(taps, 0)
