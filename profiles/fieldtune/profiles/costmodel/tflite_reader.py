"""Reads the work of each signature from a ``.tflite`` file. Nothing is executed.

Any file will do, whoever made it: float32, float16, dynamic-range or int8. An op that is not known
counts as one operation per element of its results, and by its bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.arena import arena_bytes
from fieldtune.profiles.costmodel.cache_reuse import CacheMisses, cache_misses
from fieldtune.profiles.costmodel.flops import OpCost, Tensor, op_cost
from fieldtune.profiles.costmodel.kernel_loops import Runs, kernel
from fieldtune.profiles.costmodel.tflite_work import NO_WORK, OpWork, Work
from fieldtune.profiles.costmodel.xnnpack_delegate import delegated, partitions, precision

Runtime = Literal["xnnpack", "plain"]
"""``plain``: a build of the runtime, or an interpreter, without the XNNPACK delegate."""

_INFERS = ("serving_default", "infer", "evaluate", "main")


class TfliteFile:
    """A parsed ``.tflite`` file.

    Args:
        model: the whole file. A dynamic dimension counts as 1, as in the file's ``shape``.

    Raises:
        UsageError: the bytes are not a TFLite file, or ai-edge-litert is not installed.
    """

    def __init__(self, model: bytes) -> None:
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
        self.bytes, self._content = len(model), model
        # flatbuffers raises struct.error, IndexError, TypeError and others.
        try:
            tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
            self._reader = _Reader(schema, tree)
            self._subgraphs = {
                _text(signature.signatureKey): signature.subgraphIndex
                for signature in tree.signatureDefs or ()
            } or {"main": 0}
        except Exception as error:
            raise self._damaged(error) from error

    @property
    def signatures(self) -> tuple[str, ...]:
        """Keys of its signatures; ``main`` alone for a model without any."""
        return tuple(self._subgraphs)

    @property
    def inference_signature(self) -> str:
        """The signature that infers, of several; else the first one."""
        return next((name for name in _INFERS if name in self._subgraphs), self.signatures[0])

    def work(self, signature: str, runtime: Runtime = "xnnpack") -> Work:
        """The work of one call of a signature.

        The bodies of ``IF`` and ``WHILE`` count once each, since the file does not say how often
        they run; ``CALL_ONCE`` counts as one op, since its body runs only at the first call.
        """
        try:
            return self._reader.work(self._subgraphs[signature], runtime)
        except Exception as error:
            raise self._damaged(error) from error

    def arena_bytes(self, signature: str) -> int:
        """Bytes of a signature's tensors, placed as TFLite's planner does it."""
        try:
            return arena_bytes(self._content, signature)
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UsageError:
        return UsageError(f"the TFLite file of {self.bytes} bytes is damaged: {error}")


def read_work(model: bytes) -> dict[str, Work]:
    """Read the work of every signature of a ``.tflite`` file.

    Args:
        model: the whole file.

    Returns:
        signature key -> Work; a model without signatures gives ``{"main": ...}``.

    Raises:
        UsageError: the bytes are not a TFLite file, or ai-edge-litert is not installed.
    """
    file = TfliteFile(model)
    return {name: file.work(name) for name in file.signatures}


def _numbers(tensors: Any) -> list[int]:
    return [] if tensors is None else [int(number) for number in tensors]


def _size(dimension: Any) -> int:
    """A dimension; an unknown one (-1) counts as 1."""
    return int(dimension) if dimension >= 0 else 1


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Reader:
    """Walks the subgraphs of one unpacked flatbuffer."""

    def __init__(self, schema: Any, tree: Any) -> None:
        self._tree = tree
        self._builtin = _names(schema.BuiltinOperator)
        self._types = _names(schema.TensorType)
        self._xnnpack = True
        self._unpacked_of: dict[int, frozenset[int]] = {}

    def work(self, subgraph: int, runtime: Runtime) -> Work:
        """The work of a subgraph, and of the subgraphs that its control flow calls, by kernel."""
        self._xnnpack = runtime == "xnnpack"
        classes: dict[str, OpWork] = defaultdict(lambda: NO_WORK)
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
        delegated_ops = [self._xnnpack and delegated(op.name, op.inputs, op.outputs) for op in ops]
        partition_of = self._partition_of_each_op(graph, delegated_ops)
        in_place = self._in_place_ops(graph, ops, partition_of, delegated_ops)
        misses = self._cache_misses(graph, ops, in_place)
        for number, op in enumerate(ops):
            if self._is_unpacked_once(op):
                continue
            cost, key, runs = _cost_and_kernel(op, delegated=delegated_ops[number])
            if number in in_place:
                totals[key] += OpWork(1, 0.0, 0.0)
                continue
            moved = cost.moved_bytes
            near, far, *traffic = misses[number]
            away = min(near, moved), min(far, moved), *(min(each, 2.0 * moved) for each in traffic)
            totals[key] += OpWork(1, cost.flops, moved, *runs[:4], *away)
            for body in _called_subgraphs(op.name, op.options):
                if body not in callers:
                    self._walk(body, totals, callers | {index})
        if any(delegated_ops):
            totals["call.partition"] += self._partitions(graph, delegated_ops, partition_of)

    def _op(self, graph: Any, op: Any) -> _Op:
        ins, outs = [i for i in _numbers(op.inputs) if i >= 0], _numbers(op.outputs)
        tensors = [[self._tensor(graph, i) for i in numbers] for numbers in (ins, outs)]
        return _Op(self._name(op), ins, outs, tensors[0], tensors[1], op.builtinOptions)

    def _partition_of_each_op(self, graph: Any, delegated_ops: Sequence[bool]) -> list[int]:
        """The number of the partition that each op belongs to."""
        producer = _producers(graph)
        needs = [
            [producer[tensor] for tensor in _numbers(op.inputs) if tensor in producer]
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
            for tensor in _numbers(op.inputs):
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

    def _is_unpacked_once(self, op: _Op) -> bool:
        """Whether it converts stored weights, as in a float16 file: done when the model loads."""
        return op.name in _UNPACK and all(tensor.constant for tensor in op.inputs)

    def _is_constant(self, graph: Any, index: int) -> bool:
        if index < 0:
            return True
        if index in self._unpacked(graph):
            return True
        data = self._tree.buffers[graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def _unpacked(self, graph: Any) -> frozenset[int]:
        """Tensors that are converted from constants when the model loads."""
        if id(graph) not in self._unpacked_of:
            found: set[int] = set()
            self._unpacked_of[id(graph)] = frozenset()
            for op in graph.operators or ():
                if self._name(op) in _UNPACK and all(
                    self._is_constant(graph, i) or i in found for i in _numbers(op.inputs)
                ):
                    found.update(_numbers(op.outputs))
            self._unpacked_of[id(graph)] = frozenset(found)
        return self._unpacked_of[id(graph)]

    def _tensor(self, graph: Any, index: int) -> Tensor:
        tensor = graph.tensors[index]
        shape = () if tensor.shape is None else tuple(_size(size) for size in tensor.shape)
        kind = self._types.get(tensor.type, "FLOAT32")
        constant = self._is_constant(graph, index)
        values: tuple[int, ...] = ()
        if constant and kind == "INT32" and tensor.buffer:
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
_UNPACK = ("DEQUANTIZE", "DENSIFY")
_RESHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")


def _cost_and_kernel(op: _Op, *, delegated: bool) -> tuple[OpCost, str, Runs]:
    try:
        cost = op_cost(op.name, op.inputs, op.outputs, op.options)
        key, runs = kernel(
            op.name, cost.op_class, op.inputs, op.outputs, op.options, delegated=delegated
        )
    # An op whose shapes are not stored, or not as the schema says, counts by its bytes.
    except (IndexError, ValueError, AttributeError):
        moved = sum(tensor.bytes for tensor in (*op.inputs, *op.outputs))
        elements = sum(tensor.elements for tensor in op.outputs)
        cost, key, runs = OpCost("other", float(elements), moved), "other.unknown", Runs()
    kind = precision(op.name, op.inputs, op.outputs)
    if kind != "float32":
        stem, dot, plain = key.partition(".plain")
        key = f"{stem}.{kind}{dot}{plain}"
    return cost, key, runs


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
        for tensor in _numbers(op.outputs)
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
