"""Building small ``.tflite`` graphs without TensorFlow, for timing kernels.

Files are packed with the flatbuffer schema of ai-edge-litert; tflite-runtime does not include it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import UsageError


def schema() -> Any:
    """The flatbuffer schema of TFLite.

    Raises:
        UsageError: ai-edge-litert, which contains it, is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise UsageError(
            "this needs the TFLite schema of ai-edge-litert, which is not installed: "
            "pip install ai-edge-litert"
        ) from None
    return schema_py_generated


_NUMPY_TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "int32": "INT32", "bool": "BOOL",
}  # fmt: skip


class GraphBuilder:
    """Builds a subgraph with one signature, ``main``, op by op."""

    def __init__(self) -> None:
        self._schema = schema()
        self._model = self._schema.ModelT()
        self._model.version = 3
        self._model.buffers = [self._schema.BufferT()]
        self._model.operatorCodes = []
        self._codes: dict[str, int] = {}
        self._graph = self._schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []

    def tensor(self, shape: Sequence[int], kind: str = "FLOAT32") -> int:
        """Add a tensor that is an input or computed; returns its index."""
        tensor = self._schema.TensorT()
        tensor.shape = list(shape)
        tensor.type = getattr(self._schema.TensorType, kind)
        tensor.name = f"t{len(self._graph.tensors)}".encode()
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, value: NDArray[Any]) -> int:
        """Add a constant (float32, float16, int8, int32 or bool); returns its index."""
        number = self.tensor(value.shape, _NUMPY_TYPES[str(value.dtype)])
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        self._graph.tensors[number].buffer = len(self._model.buffers) - 1
        return number

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, dict[str, Any]] | None = None,
    ) -> None:
        """Add an op.

        Args:
            name: the builtin's name in the schema, such as ``CONV_2D``.
            inputs: tensor indices of its operands.
            outputs: tensor indices of its results.
            options: (name of its options table without the final T, fields).
        """
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(name)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            kind, fields = options
            table = getattr(self._schema, f"{kind}T")()
            for key, value in fields.items():
                setattr(table, key, value)
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, kind)
            operator.builtinOptions = table
        self._graph.operators.append(operator)

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file's content, with inputs ``i0``, ``i1``, ... and outputs ``o0``, ``o1``, ..."""
        import flatbuffers

        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"main", 0
        signature.inputs = self._named("i", inputs)
        signature.outputs = self._named("o", outputs)
        self._model.subgraphs, self._model.signatureDefs = [self._graph], [signature]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _named(self, letter: str, tensors: Sequence[int]) -> list[Any]:
        maps = []
        for number, tensor in enumerate(tensors):
            entry = self._schema.TensorMapT()
            entry.name, entry.tensorIndex = f"{letter}{number}".encode(), tensor
            maps.append(entry)
        return maps

    def _code(self, name: str) -> int:
        if name not in self._codes:
            code = self._schema.OperatorCodeT()
            code.builtinCode = getattr(self._schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = 1
            self._codes[name] = len(self._codes)
            self._model.operatorCodes.append(code)
        return self._codes[name]


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One op to time: operands (shapes of inputs, arrays of constants), results, options."""

    op: str
    operands: tuple[Shape | NDArray[Any], ...]
    results: tuple[Shape, ...]
    options: tuple[str, dict[str, Any]] | None = None
    kinds: tuple[str, ...] = field(default=())  # types of the operands; FLOAT32 if empty
    result_kind: str = "FLOAT32"

    @property
    def keeps_shape(self) -> bool:
        """Whether its result has the shape and type of its first operand."""
        first = self.operands[0]
        kind = self.kinds[0] if self.kinds else "FLOAT32"
        return not isinstance(first, np.ndarray) and (first, kind) == (
            self.results[0],
            self.result_kind,
        )

    @property
    def elements(self) -> int:
        """Number of elements that it reads and writes."""
        shapes = [o.shape if isinstance(o, np.ndarray) else o for o in self.operands]
        return sum(prod(shape) for shape in (*shapes, *self.results))


def graph(ops: Sequence[Sample], *, chained: bool = False) -> bytes:
    """A graph of ops, each with separate results.

    The copies of a sample alternate between two sets of inputs. The ops are independent, unless
    they are ``chained``: then the first operand of each is the previous op's result, which is still
    in a cache, as in a model, and only the last result is an output.
    """
    builder = GraphBuilder()
    fed: dict[tuple[int, int, int], int] = {}
    results: list[int] = []
    seen: dict[int, int] = {}
    for number, sample in enumerate(ops):
        copy = seen.get(id(sample), 0)
        seen[id(sample)] = copy + 1
        operands = []
        for place, operand in enumerate(sample.operands):
            if chained and number and not place:
                operands.append(results.pop())
                continue
            if isinstance(operand, np.ndarray):
                operands.append(builder.constant(operand))
                continue
            key = (id(sample), place, copy % 2)
            if key not in fed:
                kind = sample.kinds[place] if sample.kinds else "FLOAT32"
                fed[key] = builder.tensor(operand, kind)
            operands.append(fed[key])
        outputs = [builder.tensor(shape, sample.result_kind) for shape in sample.results]
        builder.op(sample.op, operands, outputs, sample.options)
        results += outputs
    return builder.finish(list(fed.values()), results)


def chain(op: str, size: int, copies: int, other_op: str | None = None) -> bytes:
    """A graph of additions (``ADD`` or ``ADD_N``), each of which reads the previous sum.

    With ``other_op`` every second op is of that kind.
    """
    builder = GraphBuilder()
    first, other = builder.tensor((size,)), builder.tensor((size,))
    last = first
    for copy in range(copies):
        result = builder.tensor((size,))
        now = other_op if other_op and copy % 2 else op
        builder.op(now, [last, other], [result], ("AddOptions", {}) if now == "ADD" else None)
        last = result
    return builder.finish([first, other], [last])


def call_overhead(size: int, fed: int, fetched: int, layers: int = 8) -> bytes:
    """A graph for timing call overhead: vectors in and out, and a small network in between.

    It has ``fed`` input vectors of ``size`` elements and returns ``fetched`` of them negated. The
    network evicts the caller's data from the caches, as a real model does; more ``layers`` evict
    more.
    """
    builder = GraphBuilder()
    first = [builder.tensor((size,)) for _ in range(fed)]
    results = [builder.tensor((size,)) for _ in range(fetched)]
    for source, result in zip(first, results, strict=False):
        builder.op("NEG", [source], [result])
    width = 64
    last = builder.tensor((1, width))
    first.append(last)
    for layer in range(layers):
        weights = builder.constant(np.full((width, width), 1e-2, np.float32))
        bias = builder.constant(np.zeros(width, np.float32))
        dense, active = builder.tensor((1, width)), builder.tensor((1, width))
        builder.op("FULLY_CONNECTED", [last, weights, bias], [dense], ("FullyConnectedOptions", {}))
        builder.op(("TANH", "LOGISTIC")[layer % 2], [dense], [active])
        last = active
    return builder.finish(first, [*results, last] if layers else results)


def independent_adds(size: int, copies: int) -> bytes:
    """A graph of additions without shared operands, so that the operands of each are not cached."""
    pairs = [Sample("ADD", ((size,),) * 2, ((size,),), ("AddOptions", {})) for _ in range(copies)]
    return graph(pairs)


def forward_backward(kind: str, rows: int, copies: int) -> bytes:
    """A graph whose results are read again in a backward pass, like activations in training.

    Args:
        kind: class of its ops: ``elementwise`` (products), ``matmul`` (by a small matrix, and its
            gradient) or ``move`` (slicing and concatenation of halves).
        rows: rows of the kept matrices, which have 32 columns.
        copies: number of kept matrices.
    """
    builder = GraphBuilder()
    wide, half = (rows, 32), (rows, 16)
    first, other, weights = (builder.tensor(shape) for shape in (wide, half, (32, 32)))
    kept, back = [first], []

    def op(name: str, inputs: list[int], shape: Shape, options: dict[str, Any]) -> int:
        result = builder.tensor(shape)
        builder.op(name, inputs, [result], (_OPTIONS[name], options))
        return result

    def cut(whole: int) -> int:
        begin, size = (builder.constant(np.array(n, np.int32)) for n in ((0, 16), half))
        return op("SLICE", [whole, begin, size], half, {})

    for _ in range(copies):
        if kind == "elementwise":
            kept.append(op("MUL", [kept[-1], first], wide, {}))
        elif kind == "matmul":
            kept.append(op("BATCH_MATMUL", [kept[-1], weights], wide, {}))
        else:
            kept.append(op("CONCATENATION", [cut(kept[-1]), other], wide, {"axis": 1}))
    gradient = first
    for activation in reversed(kept):
        if kind == "elementwise":
            gradient = op("MUL", [gradient, activation], wide, {})
        elif kind == "matmul":
            back.append(op("BATCH_MATMUL", [activation, gradient], (32, 32), {"adjX": True}))
            gradient = op("BATCH_MATMUL", [gradient, weights], wide, {})
        else:
            gradient = op("CONCATENATION", [cut(activation), cut(gradient)], wide, {"axis": 1})
    return builder.finish([first, other, weights], [gradient, *back])


_OPTIONS = {
    "MUL": "MulOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "SLICE": "SliceOptions",
}


def variable(size: int, copies: int) -> bytes:
    """A graph that assigns its input to variables and reads each of them."""
    builder = GraphBuilder()
    source = builder.tensor((size,))
    results = []
    for copy in range(copies):
        handle = builder.tensor((), "RESOURCE")
        name = f"v{copy}"
        builder.op("VAR_HANDLE", [], [handle],
                   ("VarHandleOptions", {"container": "", "sharedName": name}))  # fmt: skip
        builder.op("ASSIGN_VARIABLE", [handle, source], [], ("AssignVariableOptions", {}))
        results.append(builder.tensor((size,)))
        builder.op("READ_VARIABLE", [handle], [results[-1]], ("ReadVariableOptions", {}))
    return builder.finish([source], results)
