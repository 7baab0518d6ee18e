"""What compiling a model may take: weights that fit into a file, memory that is free, minutes.

Weights are counted while a model is built, before TensorFlow allocates them. What cannot be counted
is bounded by the system: the process is refused more memory than is free, and ended after ten
minutes of processor time.
"""

from __future__ import annotations

import math
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from fieldtune.profiles.common.errors import CompileError
from fieldtune.profiles.host.probe import probe

_FILE_BYTES = 2**31
"""The most that a TFLite file can hold, whose offsets are 32-bit numbers."""

_BYTES_PER_BYTE = 80
"""Bytes of memory that compiling takes for each byte of weights: 58 to 61 were measured in the
process that verifies, with dense and convolutional models of 6 and 7 million weights, and 12 in the
one that measures memory; the rest is for the one that converts."""

_MOST_TENSORS = 5000
"""Of weights; a hundred take three seconds of processor time or more to compile."""

_CPU_S = 600


OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
"""What is raised where the system refuses memory."""


@contextmanager
def counted_weights(what: str) -> Iterator[None]:
    """While a model is built: refuse weights that are too large to be compiled.

    Args:
        what: the model in error messages.

    Raises:
        CompileError: a TFLite file cannot hold the weights, or the memory that is free does not
            suffice to compile them.
    """
    built, tensors, free = 0, 0, _free_bytes()
    add_weight = keras.layers.Layer.add_weight

    def counting(layer: Any, shape: Any = None, *arguments: Any, **options: Any) -> Any:
        nonlocal built, tensors
        built += 4 * math.prod(size or 1 for size in (() if shape is None else shape))
        tensors += 1
        if built > _FILE_BYTES:
            raise CompileError(
                f"{what} has weights of {_shown(built)} or more ({layer.name}: "
                f"{' x '.join(map(str, shape))} numbers), and a TFLite file holds 2 GiB at most: "
                "choose smaller values"
            )
        if free is not None and built * _BYTES_PER_BYTE > free:
            raise CompileError(
                f"{what} has weights of {_shown(built)} or more, which take "
                f"{_shown(built * _BYTES_PER_BYTE)} of memory to compile, and {_shown(free)} are "
                "free: choose smaller values, or compile on a machine with more memory"
            )
        if tensors > _MOST_TENSORS:
            raise CompileError(
                f"{what} has more than {_MOST_TENSORS} weight tensors, the most that is compiled: "
                "choose smaller values"
            )
        return add_weight(layer, shape, *arguments, **options)

    keras.layers.Layer.add_weight = counting
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight


def bound_process() -> None:
    """Let this process take what memory is free now, and ten minutes of processor time from now."""
    seconds = math.ceil(time.process_time()) + _CPU_S
    _limit(resource.RLIMIT_CPU, seconds)
    if (free := _free_bytes()) is None:
        return
    if held := re.search(r"^VmData:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M):
        _limit(resource.RLIMIT_DATA, 1024 * int(held[1]) + free)


def _limit(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _free_bytes() -> int | None:
    """Memory that new work can have without swapping; None where the system does not say."""
    free = probe().memory_available_mib
    return None if free is None else int(free * 2**20)


def _shown(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
