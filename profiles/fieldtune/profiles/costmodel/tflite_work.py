"""The work of one call of a model's signature, independent of the device.

A :class:`Work` sums floating-point operations and moved bytes over the ops of a subgraph by kernel,
because devices reach very different shares of their peak in a convolution and in an addition
(nn-Meter, Zhang et al., MobiSys 2021). :mod:`fieldtune.profiles.costmodel.tflite_reader` reads it
from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import get_args

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.flops import OpClass

__all__ = ["FEATURES", "OP_CLASSES", "OpClass", "OpWork", "Work"]

OP_CLASSES: tuple[OpClass, ...] = get_args(OpClass)
_CLASS_NAMES = {*OP_CLASSES, "call"}
FEATURES = (
    "count", "flops", "moved_bytes", "runs", "wide", "outer", "starts",
    "near_bytes", "far_bytes", "remote_bytes",
)  # fmt: skip
"""Fields of an :class:`OpWork`: the features of the linear model of a measured kernel's time."""


@dataclass(frozen=True)
class OpWork:
    """The ops of one kernel: count, floating-point operations, bytes moved.

    ``runs``, ``wide``, ``outer`` and ``starts`` count the kernel's loops, as
    :class:`fieldtune.profiles.costmodel.kernel_loops.Runs` describes them.
    """

    count: int
    flops: float
    moved_bytes: float
    runs: float = 0.0
    wide: float = 0.0
    outer: float = 0.0
    starts: float = 0.0
    near_bytes: float = 0.0  # of the bytes read, those that miss the L1 cache
    far_bytes: float = 0.0  # of the bytes read, those that miss the L2 cache
    remote_bytes: float = 0.0  # main memory traffic: reads, and writes twice
    beyond_l2_bytes: float = 0.0  # the same, of a device without an L3 cache
    neon: float = 0.0  # steps over tiles of products, of XNNPACK's kernels for ARM
    heavy: float = 0.0  # of these, those of products whose weights no L2 cache holds
    single: float = 0.0  # of the ops, those that one thread does alone; of small ones a part

    def __mul__(self, times: int) -> OpWork:
        """The work of as many calls; ``count`` and all else."""
        return OpWork(*(number * times for number in astuple(self)))

    def __add__(self, other: OpWork) -> OpWork:
        return OpWork(
            self.count + other.count,
            self.flops + other.flops,
            self.moved_bytes + other.moved_bytes,
            self.runs + other.runs,
            self.wide + other.wide,
            self.outer + other.outer,
            self.starts + other.starts,
            self.near_bytes + other.near_bytes,
            self.far_bytes + other.far_bytes,
            self.remote_bytes + other.remote_bytes,
            self.beyond_l2_bytes + other.beyond_l2_bytes,
            self.neon + other.neon,
            self.heavy + other.heavy,
            self.single + other.single,
        )


@dataclass(frozen=True)
class Work:
    """One call of a signature: the work of each kernel that occurs in it.

    A kernel's name starts with the class of its ops (``conv.conv_2d.pointwise``); a class name
    alone stands for any of its kernels. Three names of class ``call`` are not ops: ``call.feed``
    and ``call.fetch`` count the tensors that a call copies in and out (``runs`` of the former:
    share of the caches that the previous call has overwritten, from 0 to 1), ``call.partition`` the
    partitions of the graph that run on XNNPACK (``runs``: the tensors at their boundaries).
    """

    classes: Mapping[str, OpWork]

    @property
    def flops(self) -> float:
        """Floating-point operations of the call; a multiply-add counts as two."""
        return sum(work.flops for work in self.classes.values())

    @property
    def moved_bytes(self) -> float:
        """Bytes that the ops read and write: inputs, outputs and constants."""
        return sum(work.moved_bytes for name, work in self.classes.items() if _is_op(name))

    @property
    def ops(self) -> int:
        """Ops that the call dispatches."""
        return sum(work.count for name, work in self.classes.items() if _is_op(name))

    def to_json(self) -> dict[str, dict[str, float]]:
        """A plain dictionary that :meth:`from_json` reads."""
        return {name: asdict(work) for name, work in self.classes.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, float]]) -> Work:
        """Read what :meth:`to_json` returned; UsageError for an unknown class or missing number."""
        classes: dict[str, OpWork] = {}
        for name, work in data.items():
            if name.partition(".")[0] not in _CLASS_NAMES:
                raise UsageError(f"work of class {name!r} is unknown: expected one of {OP_CLASSES}")
            try:
                numbers = {key: float(work[key]) for key in FEATURES[1:]}
                # Files of earlier versions do not have these.
                numbers["beyond_l2_bytes"] = float(work.get("beyond_l2_bytes", work["far_bytes"]))
                numbers |= {key: float(work.get(key, 0.0)) for key in ("neon", "heavy", "single")}
                classes[name] = OpWork(int(work["count"]), **numbers)
            except KeyError as missing:
                raise UsageError(f"work of class {name!r} lacks {missing}") from None
        return cls(classes)


NO_WORK = OpWork(0, 0.0, 0.0)
"""What sums of work start with."""


def _is_op(name: str) -> bool:
    return not name.startswith("call")
