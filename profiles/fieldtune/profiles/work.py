"""What one call of a model's signature costs, on any device.

A :class:`Work` sums floating-point operations and moved bytes over the ops of a subgraph, by the
class of op, because devices reach very different shares of their peak in a convolution and in an
addition (nn-Meter, Zhang et al., MobiSys 2021). It is read from the file alone: nothing is run.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from fieldtune.profiles.errors import UsageError
from fieldtune.profiles.flops import OpClass, Tensor, op_cost

__all__ = ["OP_CLASSES", "OpClass", "OpWork", "Work", "read_work"]

OP_CLASSES: tuple[OpClass, ...] = get_args(OpClass)


@dataclass(frozen=True)
class OpWork:
    """The ops of one class: how many, their floating-point operations, the bytes they move."""

    count: int
    flops: float
    moved_bytes: float

    def __add__(self, other: "OpWork") -> "OpWork":
        return OpWork(
            self.count + other.count,
            self.flops + other.flops,
            self.moved_bytes + other.moved_bytes,
        )


@dataclass(frozen=True)
class Work:
    """One call of a signature: the work of each class of op that occurs in it."""

    classes: Mapping[OpClass, OpWork]

    @property
    def flops(self) -> float:
        """Floating-point operations of the call; a multiply-add counts as two."""
        return sum(work.flops for work in self.classes.values())

    @property
    def moved_bytes(self) -> float:
        """Bytes that the ops read and write: inputs, outputs and constants."""
        return sum(work.moved_bytes for work in self.classes.values())

    @property
    def ops(self) -> int:
        """Ops that the call dispatches."""
        return sum(work.count for work in self.classes.values())

    def to_json(self) -> dict[str, dict[str, float]]:
        """Give a plain dictionary that :meth:`from_json` reads back."""
        return {
            name: {"count": work.count, "flops": work.flops, "moved_bytes": work.moved_bytes}
            for name, work in self.classes.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, float]]) -> "Work":
        """Read what :meth:`to_json` gave; an unknown class or a missing number is a UsageError."""
        classes: dict[OpClass, OpWork] = {}
        for name, work in data.items():
            if name not in OP_CLASSES:
                raise UsageError(f"work of class {name!r} is unknown: expected one of {OP_CLASSES}")
            try:
                classes[name] = OpWork(
                    int(work["count"]), float(work["flops"]), float(work["moved_bytes"])
                )
            except KeyError as missing:
                raise UsageError(f"work of class {name!r} lacks {missing}") from None
        return cls(classes)


def read_work(model: bytes) -> dict[str, Work]:
    """Read the work of every signature of a ``.tflite`` file.

    Args:
        model: the whole file. A dimension left open counts as 1, as in the file's ``shape``.

    Returns:
        signature key -> Work; a model without signatures gives ``{"main": ...}``. The bodies of
        ``IF`` and ``WHILE`` count once each, since the file does not say how often they run;
        ``CALL_ONCE`` counts as one op, since its body runs only at the first call.

    Raises:
        UsageError: the bytes are no TFLite file, or ai-edge-litert is not installed.
    """
    if model[4:8] != b"TFL3":
        raise UsageError(
            f"not a TFLite file: its identifier is {model[4:8]!r} and not b'TFL3'; "
            "give the bytes of a .tflite file"
        )
    # Imported here, for only who reads work needs it: a device with tflite-runtime lacks it.
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


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Reader:
    """Walks the subgraphs of one unpacked flatbuffer."""

    def __init__(self, schema: Any, tree: Any) -> None:
        self._tree = tree
        self._builtin = _names(schema.BuiltinOperator)
        self._types = _names(schema.TensorType)

    def work(self, subgraph: int) -> Work:
        """Sum one subgraph, and the subgraphs that its control flow calls, by class."""
        classes: dict[OpClass, OpWork] = defaultdict(lambda: OpWork(0, 0.0, 0.0))
        self._walk(subgraph, classes, frozenset())
        return Work({name: classes[name] for name in OP_CLASSES if name in classes})

    def _walk(self, index: int, into: dict[OpClass, OpWork], above: frozenset[int]) -> None:
        graph = self._tree.subgraphs[index]
        for op in graph.operators or ():
            name = self._name(op)
            inputs = [self._tensor(graph, i) for i in op.inputs if i >= 0]
            outputs = [self._tensor(graph, i) for i in op.outputs]
            cost = op_cost(name, inputs, outputs, op.builtinOptions)
            into[cost.op_class] += OpWork(1, cost.flops, cost.moved_bytes)
            for body in _bodies(name, op.builtinOptions):
                if body not in above:
                    self._walk(body, into, above | {index})

    def _name(self, op: Any) -> str:
        code = self._tree.operatorCodes[op.opcodeIndex]
        # Files before schema 3a keep the code in the deprecated byte; later ones in both or here.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return self._builtin.get(number, f"BUILTIN_{number}")

    def _tensor(self, graph: Any, index: int) -> Tensor:
        tensor = graph.tensors[index]
        shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
        return Tensor(shape, self._types.get(tensor.type, "FLOAT32"))


def _names(enumeration: Any) -> dict[int, str]:
    return {
        value: name
        for name, value in vars(enumeration).items()
        if not name.startswith("_") and isinstance(value, int)
    }


def _bodies(name: str, options: Any) -> tuple[int, ...]:
    if name == "IF":
        return (options.thenSubgraphIndex, options.elseSubgraphIndex)
    if name == "WHILE":
        return (options.condSubgraphIndex, options.bodySubgraphIndex)
    return ()
