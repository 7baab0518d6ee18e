"""The work of one call of a model's signature, independent of the device.

A :class:`Work` sums floating-point operations and moved bytes over the ops of a subgraph by kernel,
because devices reach very different shares of their peak in a convolution and in an addition
(nn-Meter, Zhang et al., MobiSys 2021). It is read from the file alone; nothing is executed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, get_args

import numpy as np

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.cache_reuse import CacheMisses, cache_misses
from fieldtune.profiles.costmodel.flops import OpClass, Tensor, op_cost
from fieldtune.profiles.costmodel.kernel_loops import kernel
from fieldtune.profiles.costmodel.xnnpack_delegate import delegated, partitions

__all__ = ["FEATURES", "OP_CLASSES", "OpClass", "OpWork", "Work", "read_work"]

OP_CLASSES: tuple[OpClass, ...] = get_args(OpClass)
_CLASS_NAMES = {*OP_CLASSES, "call"}
FEATURES = (
    "count", "flops", "moved_bytes", "runs", "wide", "outer", "starts",
    "near_bytes", "far_bytes", "remote_bytes",
)  # fmt: skip
"""Fields of an :class:`OpWork`: the features of the linear model of a kernel's time."""


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
                classes[name] = OpWork(
                    int(work["count"]),
                    float(work["flops"]),
                    *(float(work[key]) for key in FEATURES[2:]),
                )
            except KeyError as missing:
                raise UsageError(f"work of class {name!r} lacks {missing}") from None
        return cls(classes)


_NO_WORK = OpWork(0, 0.0, 0.0)


def _is_op(name: str) -> bool:
    return not name.startswith("call")


def read_work(model: bytes) -> dict[str, Work]:
    """Read the work of every signature of a ``.tflite`` file.

    Args:
        model: the whole file. A dynamic dimension counts as 1, as in the file's ``shape``.

    Returns:
        signature key -> Work; a model without signatures gives ``{"main": ...}``. The bodies of
        ``IF`` and ``WHILE`` count once each, since the file does not say how often they run;
        ``CALL_ONCE`` counts as one op, since its body runs only at the first call.

    Raises:
        UsageError: the bytes are not a TFLite file, or ai-edge-litert is not installed.
    """
    if model[4:8] != b"TFL3":
        raise UsageError(
            f"not a TFLite file: its identifier is {model[4:8]!r}, not b'TFL3'; "
            "give the bytes of a .tflite file"
        )
    # Imported here, because a device with tflite-runtime does not have it.
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise UsageError(
            "reading the work of a model needs the schema that ai-edge-litert brings: "
            "pip install ai-edge-litert"
        ) from None

    try:
        tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    except Exception as error:  # flatbuffers raises struct.error, IndexError, TypeError and others
        raise UsageError(f"the TFLite file of {len(model)} bytes is damaged: {error}") from error
    reader = _Reader(schema, tree)
    signatures = {
        _text(signature.signatureKey): signature.subgraphIndex
        for signature in tree.signatureDefs or ()
    }
    return {name: reader.work(index) for name, index in (signatures or {"main": 0}).items()}


def _numbers(tensors: Any) -> list[int]:
    return [] if tensors is None else [int(number) for number in tensors]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Reader:
    """Walks the subgraphs of one unpacked flatbuffer."""

    def __init__(self, schema: Any, tree: Any) -> None:
        self._tree = tree
        self._builtin = _names(schema.BuiltinOperator)
        self._types = _names(schema.TensorType)

    def work(self, subgraph: int) -> Work:
        """The work of a subgraph, and of the subgraphs that its control flow calls, by kernel."""
        classes: dict[str, OpWork] = defaultdict(lambda: _NO_WORK)
        graph = self._tree.subgraphs[subgraph]
        for name, tensors in (("call.feed", graph.inputs), ("call.fetch", graph.outputs)):
            numbers = _numbers(tensors)
            moved = sum(self._tensor(graph, number).bytes for number in numbers)
            if numbers:
                classes[name] = OpWork(len(numbers), 0.0, moved)
        self._walk(subgraph, classes, frozenset())
        if "call.feed" in classes:
            moved = Work(classes).moved_bytes
            classes["call.feed"] += OpWork(0, 0.0, 0.0, moved / (moved + _COLD_BYTES))
        return Work(dict(sorted(classes.items())))

    def _walk(self, index: int, totals: dict[str, OpWork], callers: frozenset[int]) -> None:
        graph = self._tree.subgraphs[index]
        ops = [self._op(graph, op) for op in graph.operators or ()]
        delegated_ops = [delegated(op.name, op.inputs, op.outputs) for op in ops]
        partition_of = self._partition_of_each_op(graph, delegated_ops)
        in_place = self._in_place_ops(graph, ops, partition_of, delegated_ops)
        misses = self._cache_misses(graph, ops, in_place)
        for number, op in enumerate(ops):
            cost = op_cost(op.name, op.inputs, op.outputs, op.options)
            key, runs = kernel(
                op.name,
                cost.op_class,
                op.inputs,
                op.outputs,
                op.options,
                delegated=delegated_ops[number],
            )
            if number in in_place:
                totals[key] += OpWork(1, 0.0, 0.0)
                continue
            moved = cost.moved_bytes
            near, far, remote = misses[number]
            away = min(near, moved), min(far, moved), min(remote, 2.0 * moved)
            totals[key] += OpWork(1, cost.flops, moved, *runs[:4], *away)
            for body in _called_subgraphs(op.name, op.options):
                if body not in callers:
                    self._walk(body, totals, callers | {index})
        if any(delegated_ops):
            totals["call.partition"] += self._partitions(graph, delegated_ops, partition_of)

    def _op(self, graph: Any, op: Any) -> _Op:
        ins, outs = [int(i) for i in op.inputs if i >= 0], [int(i) for i in op.outputs]
        tensors = [[self._tensor(graph, i) for i in numbers] for numbers in (ins, outs)]
        return _Op(self._name(op), ins, outs, tensors[0], tensors[1], op.builtinOptions)

    def _partition_of_each_op(self, graph: Any, delegated_ops: Sequence[bool]) -> list[int]:
        """The number of the partition that each op belongs to."""
        producer = _producers(graph)
        needs = [
            [producer[tensor] for tensor in op.inputs if tensor in producer]
            for op in graph.operators or ()
        ]
        return partitions(delegated_ops, needs)

    def _in_place_ops(
        self,
        graph: Any,
        ops: Sequence[_Op],
        partition_of: Sequence[int],
        delegated_ops: Sequence[bool],
    ) -> set[int]:
        """Ops on XNNPACK that copy nothing, because input and output share memory.

        These are a reshape of a result that no other op reads, an assignment of such a result (it
        is computed directly in the variable's memory), and a variable that is read within the
        partition. Found by timing ai-edge-litert 2.3; in all other cases these ops copy.
        """
        producer, readers = _producers(graph), defaultdict[int, set[int]](set)
        for number, op in enumerate(ops):
            for tensor in op.ins:
                readers[tensor].add(number)
        graph_outputs = set(_numbers(graph.outputs))

        def within(tensor: int, number: int) -> bool:
            parts = {partition_of[reader] for reader in readers[tensor]} | {
                partition_of[producer[tensor]]
            }
            return tensor not in graph_outputs and parts == {partition_of[number]}

        in_place: set[int] = set()
        for number, op in enumerate(ops):
            if not delegated_ops[number]:
                continue
            if op.name == "READ_VARIABLE":
                if within(op.outs[0], number):
                    in_place.add(number)
            elif op.name in _RESHAPES or op.name == "ASSIGN_VARIABLE":
                value = op.ins[0] if op.name in _RESHAPES else op.ins[1]
                alone = value in producer and readers[value] == {number}
                if alone and within(value, number):
                    in_place.add(number)
        return in_place

    def _cache_misses(
        self, graph: Any, ops: Sequence[_Op], in_place: Collection[int]
    ) -> list[CacheMisses]:
        sizes = [self._tensor(graph, number).bytes for number in range(len(graph.tensors or ()))]
        same: dict[int, int] = {}
        reads: list[list[tuple[int, float]]] = []
        writes: list[list[tuple[int, float]]] = []
        for number, op in enumerate(ops):
            if number in in_place and op.name in _RESHAPES:
                same[op.outs[0]] = same.get(op.ins[0], op.ins[0])
            for tensors, per_op in ((op.ins, reads), (op.outs, writes)):
                moved = () if number in in_place else tensors
                per_op.append([(same.get(tensor, tensor), sizes[tensor]) for tensor in moved])
        kept = [same.get(tensor, tensor) for tensor in _numbers(graph.outputs)]
        return cache_misses(reads, writes, kept=kept)

    def _partitions(
        self, graph: Any, delegated_ops: Sequence[bool], partition_of: Sequence[int]
    ) -> OpWork:
        """Number of partitions on XNNPACK, and of the tensors that cross their boundaries."""
        producer = _producers(graph)
        on_xnnpack = {
            part for part, is_on in zip(partition_of, delegated_ops, strict=True) if is_on
        }
        boundaries: set[tuple[int, int]] = set()
        for number, op in enumerate(graph.operators):
            for tensor in op.inputs:
                made_in = partition_of[producer[tensor]] if tensor in producer else -1
                if made_in == partition_of[number] or self._is_constant(graph, tensor):
                    continue
                boundaries |= {(part, int(tensor)) for part in (made_in, partition_of[number])}
        crossing = float(sum(part in on_xnnpack for part, _ in boundaries))
        return OpWork(len(on_xnnpack), 0.0, 0.0, crossing)

    def _name(self, op: Any) -> str:
        code = self._tree.operatorCodes[op.opcodeIndex]
        # Files before schema 3a use only the deprecated byte; later ones both fields or the new
        # one.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return self._builtin.get(number, f"BUILTIN_{number}")

    def _is_constant(self, graph: Any, index: int) -> bool:
        if index < 0:
            return True
        data = self._tree.buffers[graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def _tensor(self, graph: Any, index: int) -> Tensor:
        tensor = graph.tensors[index]
        shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
        kind = self._types.get(tensor.type, "FLOAT32")
        constant = self._is_constant(graph, index)
        values: tuple[int, ...] = ()
        if constant and kind == "INT32":
            data = np.asarray(self._tree.buffers[tensor.buffer].data, np.uint8)
            if data.size <= _MAX_VALUES * 4:
                values = tuple(int(value) for value in data.view("<i4"))
        return Tensor(shape, kind, constant, values)


# Axes, permutations and paddings are short.
_MAX_VALUES = 16
# A graph that moves this many bytes evicts half of Python's working set from the caches: the
# overhead of a call was 2.1 us higher with 64 dense layers of 16 KiB than with 4, and 0.8 us with
# 16.
_COLD_BYTES = 5e5
_RESHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")


class _Op(NamedTuple):
    name: str
    ins: list[int]
    outs: list[int]
    inputs: list[Tensor]
    outputs: list[Tensor]
    options: Any


def _producers(graph: Any) -> dict[int, int]:
    """Tensor -> the op that computes it."""
    return {
        int(tensor): number
        for number, op in enumerate(graph.operators or ())
        for tensor in op.outputs
    }


def _names(enumeration: Any) -> dict[int, str]:
    return {
        value: name
        for name, value in vars(enumeration).items()
        if not name.startswith("_") and isinstance(value, int)
    }


def _called_subgraphs(name: str, options: Any) -> tuple[int, ...]:
    if name == "IF":
        return (options.thenSubgraphIndex, options.elseSubgraphIndex)
    if name == "WHILE":
        return (options.condSubgraphIndex, options.bodySubgraphIndex)
    return ()
