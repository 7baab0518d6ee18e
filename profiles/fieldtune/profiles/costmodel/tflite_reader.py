"""Reads the work of each signature from a ``.tflite`` file. Nothing is executed.

Any file will do, whoever made it: float32, float16, dynamic-range or int8. An op that is not known
counts as one operation per element of its results, and by its bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Literal

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.arena import arena_bytes
from fieldtune.profiles.costmodel.cache_reuse import HEAVY_BYTES, CacheMisses, cache_misses
from fieldtune.profiles.costmodel.flops import OpCost, op_cost
from fieldtune.profiles.costmodel.kernel_loops import Runs, kernel
from fieldtune.profiles.costmodel.loop_counts import loop_count
from fieldtune.profiles.costmodel.one_thread import one_thread_share
from fieldtune.profiles.costmodel.tflite_graph import Op, TfliteGraphs, indices, producers
from fieldtune.profiles.costmodel.tflite_work import NO_WORK, OpWork, Work
from fieldtune.profiles.costmodel.xnnpack_delegate import delegated, partitions, precision

Runtime = Literal["xnnpack", "plain"]
"""``plain``: a build of the runtime, or an interpreter, without the XNNPACK delegate."""

UNCOUNTED = "other.while.uncounted"
"""Kernel that stands for loops of which the file does not say how often they run."""
_MOST_TABLES = 50_000
"""Ops and tensors of a file that is read."""
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
            root = schema.Model.GetRootAs(model, 0)
            _check_size(root)
            tree = schema.ModelT.InitFromObj(root)
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

        The body of ``WHILE`` counts as often as it runs, or once where the file does not say how
        often (a kernel of the name ``UNCOUNTED`` tells); both branches of ``IF`` count;
        ``CALL_ONCE`` counts as one op, since its body runs only at the first call.
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

    def half_bytes(self, signature: str) -> float:
        """Bytes of a signature's weights that are stored as float16, and unpacked when it loads."""
        try:
            return self._reader.unpacked_bytes(self._subgraphs[signature])
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


def _check_size(root: Any) -> None:
    """ValueError for more ops and tensors than any model has.

    A small file can have very many, since tables may be shared.
    """
    count = 0
    for number in range(root.SubgraphsLength()):
        graph = root.Subgraphs(number)
        count += 1 + graph.OperatorsLength() + graph.TensorsLength()
        if count > _MOST_TABLES:
            raise ValueError(f"it has more than {_MOST_TABLES} ops and tensors")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Reader:
    """Walks the subgraphs of one unpacked flatbuffer."""

    def __init__(self, schema: Any, tree: Any) -> None:
        self._graphs = TfliteGraphs(schema, tree)
        self._xnnpack = True
        self._known: dict[int, dict[str, OpWork]] = {}
        """Subgraph -> the work of one run, of those that control flow calls."""

    def work(self, subgraph: int, runtime: Runtime) -> Work:
        """The work of a subgraph, and of the subgraphs that its control flow calls, by kernel."""
        self._xnnpack = runtime == "xnnpack"
        self._known.clear()
        classes: dict[str, OpWork] = defaultdict(lambda: NO_WORK)
        graph = self._graphs.tree.subgraphs[subgraph]
        for name, tensors in (("call.feed", graph.inputs), ("call.fetch", graph.outputs)):
            which = indices(tensors)
            moved = sum(self._graphs.tensor(graph, number).bytes for number in which)
            if which:
                classes[name] = OpWork(len(which), 0.0, moved)
        self._walk(subgraph, classes, frozenset())
        if "call.feed" in classes:
            moved = Work(classes).moved_bytes
            classes["call.feed"] += OpWork(0, 0.0, 0.0, moved / (moved + _COLD_BYTES))
        return Work(dict(sorted(classes.items())))

    def unpacked_bytes(self, subgraph: int) -> float:
        """Stored bytes of the constants that a subgraph converts once."""
        graph = self._graphs.tree.subgraphs[subgraph]
        ops = (self._graphs.op(graph, op) for op in graph.operators or ())
        return sum(
            tensor.bytes
            for op in ops
            if self._graphs.is_unpacked_once(op)
            for tensor in op.inputs
            if tensor.type == "FLOAT16"
        )

    def _walk(self, index: int, totals: dict[str, OpWork], callers: frozenset[int]) -> None:
        graph = self._graphs.tree.subgraphs[index]
        ops = [self._graphs.op(graph, op) for op in graph.operators or ()]
        delegated_ops = [self._xnnpack and delegated(op.name, op.inputs, op.outputs) for op in ops]
        partition_of = self._partition_of_each_op(graph, delegated_ops)
        in_place = self._in_place_ops(graph, ops, partition_of, delegated_ops)
        misses = self._cache_misses(graph, ops, in_place)
        for number, op in enumerate(ops):
            if self._graphs.is_unpacked_once(op):
                continue
            cost, key, runs = _cost_and_kernel(op, delegated=delegated_ops[number])
            if number in in_place:
                totals[key] += OpWork(1, 0.0, 0.0, single=1.0)
                continue
            moved = cost.moved_bytes
            near, far, remote, beyond_l2 = misses[number]
            totals[key] += OpWork(
                1,
                cost.flops,
                moved,
                *runs[:4],
                min(near, moved),
                min(far, moved),
                min(remote, 2.0 * moved),
                min(beyond_l2, 2.0 * moved),
                runs.neon,
                runs.neon if _weight_bytes(op) > HEAVY_BYTES else 0.0,
                one_thread_share(op, cost.op_class, cost.flops, delegated=delegated_ops[number]),
            )
            times = loop_count(self._graphs, op) if op.name == "WHILE" else 1
            if times is None:
                totals[UNCOUNTED] += NO_WORK
            for body in _called_subgraphs(op.name, op.options):
                if body not in callers:
                    if body not in self._known:
                        inner: dict[str, OpWork] = defaultdict(lambda: NO_WORK)
                        self._walk(body, inner, callers | {index})
                        self._known[body] = inner
                    for name, work in self._known[body].items():
                        totals[name] += work * (1 if times is None else times)
        if any(delegated_ops):
            totals["call.partition"] += self._partitions(graph, delegated_ops, partition_of)

    def _partition_of_each_op(self, graph: Any, delegated_ops: Sequence[bool]) -> list[int]:
        """The number of the partition that each op belongs to."""
        producer = producers(graph)
        needs = [
            [producer[tensor] for tensor in indices(op.inputs) if tensor in producer]
            for op in graph.operators or ()
        ]
        return partitions(delegated_ops, needs)

    def _in_place_ops(
        self,
        graph: Any,
        ops: Sequence[Op],
        partition_of: Sequence[int],
        delegated_ops: Sequence[bool],
    ) -> set[int]:
        """Ops on XNNPACK that copy nothing, because input and output share memory.

        These are a reshape of a result that no other op reads, an assignment of such a result (it
        is computed directly in the variable's memory), and a variable that is read within the
        partition. Found by timing ai-edge-litert 2.3; in all other cases these ops copy.
        """
        producer, readers = producers(graph), defaultdict[int, set[int]](set)
        for number, op in enumerate(ops):
            for tensor in op.ins:
                readers[tensor].add(number)
        graph_outputs = set(indices(graph.outputs))

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
        self, graph: Any, ops: Sequence[Op], in_place: Collection[int]
    ) -> list[CacheMisses]:
        sizes = [
            self._graphs.tensor(graph, number).bytes for number in range(len(graph.tensors or ()))
        ]
        same: dict[int, int] = {}
        reads: list[list[tuple[int, float]]] = []
        writes: list[list[tuple[int, float]]] = []
        for number, op in enumerate(ops):
            if number in in_place and op.name in _RESHAPES:
                same[op.outs[0]] = same.get(op.ins[0], op.ins[0])
            for tensors, per_op in ((op.ins, reads), (op.outs, writes)):
                moved = () if number in in_place else tensors
                per_op.append([(same.get(tensor, tensor), sizes[tensor]) for tensor in moved])
        kept = [same.get(tensor, tensor) for tensor in indices(graph.outputs)]
        stored = {i for op in ops for i, t in zip(op.ins, op.inputs, strict=True) if t.constant}
        return cache_misses(reads, writes, kept=kept, weights=stored)

    def _partitions(
        self, graph: Any, delegated_ops: Sequence[bool], partition_of: Sequence[int]
    ) -> OpWork:
        """Number of partitions on XNNPACK, and of the tensors that cross their boundaries."""
        producer = producers(graph)
        on_xnnpack = {
            part for part, is_on in zip(partition_of, delegated_ops, strict=True) if is_on
        }
        boundaries: set[tuple[int, int]] = set()
        for number, op in enumerate(graph.operators):
            for tensor in indices(op.inputs):
                made_in = partition_of[producer[tensor]] if tensor in producer else -1
                if made_in == partition_of[number] or self._graphs.is_constant(graph, tensor):
                    continue
                boundaries |= {(part, int(tensor)) for part in (made_in, partition_of[number])}
        crossing = float(sum(part in on_xnnpack for part, _ in boundaries))
        return OpWork(len(on_xnnpack), 0.0, 0.0, crossing)


# A graph that moves this many bytes evicts half of Python's working set from the caches: the
# overhead of a call was 2.1 us higher with 64 dense layers of 16 KiB than with 4, and 0.8 us with
# 16.
_COLD_BYTES = 5e5
_RESHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")


def _cost_and_kernel(op: Op, *, delegated: bool) -> tuple[OpCost, str, Runs]:
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


def _weight_bytes(op: Op) -> float:
    """Of its largest operand that is stored in the file."""
    return max((tensor.bytes for tensor in op.inputs if tensor.constant), default=0.0)


def _called_subgraphs(name: str, options: Any) -> tuple[int, ...]:
    if name == "IF":
        return (options.thenSubgraphIndex, options.elseSubgraphIndex)
    if name == "WHILE":
        return (options.condSubgraphIndex, options.bodySubgraphIndex)
    return ()
