"""Memory for a subgraph's tensors, computed from the file like TFLite's planner does."""

from __future__ import annotations

from typing import Any

import numpy as np

_ALIGNMENT = 64
_WIDTHS = {"FLOAT32": 4, "INT32": 4, "INT64": 8, "INT8": 1, "UINT8": 1, "BOOL": 1, "FLOAT16": 2}


def arena_bytes(model: bytes, signature: str | None = None) -> int:
    """Bytes of the arena of one signature's subgraph (of the first one without a name).

    Places tensors as TFLite's planner does: the largest first, each in the lowest gap that is
    free during its life.
    """
    # Imported here, because a device with tflite-runtime does not have it.
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAsModel(model, 0)
    graph = root.Subgraphs(_subgraph(root, signature))
    lives = _lives(schema, root, graph)
    placed: list[tuple[int, int, int, int]] = []
    top = 0
    for size, first, last in sorted(lives, key=lambda life: (-life[0], life[1])):
        offset = 0
        for start, end, other_first, other_last in placed:
            if other_last < first or other_first > last:
                continue
            if offset + size <= start:
                break
            offset = max(offset, end)
        end = -(-(offset + size) // _ALIGNMENT) * _ALIGNMENT
        placed.append((offset, end, first, last))
        placed.sort()
        top = max(top, end)
    return top


def _subgraph(root: Any, signature: str | None) -> int:
    for number in range(root.SignatureDefsLength()):
        definition = root.SignatureDefs(number)
        if definition.SignatureKey() == (signature or "").encode():
            return int(definition.SubgraphIndex())
    return 0


def _lives(schema: Any, root: Any, graph: Any) -> list[tuple[int, int, int]]:
    """(bytes, first op, last op) of each tensor that lives in the arena."""
    inputs = graph.InputsAsNumpy() if graph.InputsLength() else ()
    first: dict[int, int] = {int(tensor): 0 for tensor in inputs}
    last: dict[int, int] = {}
    count = graph.OperatorsLength()
    for number in range(count):
        op = graph.Operators(number)
        if _unpacks_weights(schema, root, graph, op):
            continue
        for tensor in op.OutputsAsNumpy() if op.OutputsLength() else ():
            first.setdefault(int(tensor), number)
            last[int(tensor)] = max(last.get(int(tensor), 0), number)
        for tensor in op.InputsAsNumpy() if op.InputsLength() else ():
            last[int(tensor)] = number
    for tensor in graph.OutputsAsNumpy() if graph.OutputsLength() else ():
        last[int(tensor)] = count
    widths = {getattr(schema.TensorType, name): width for name, width in _WIDTHS.items()}
    lives = []
    for tensor, start in first.items():
        t = graph.Tensors(tensor)
        if t.Type() not in widths or root.Buffers(t.Buffer()).DataLength():
            continue
        shape = t.ShapeAsNumpy() if t.ShapeLength() else np.ones(0, np.int32)
        size = int(np.prod(shape)) * widths[t.Type()]
        lives.append((size, start, last.get(tensor, start)))
    return lives


def _unpacks_weights(schema: Any, root: Any, graph: Any, op: Any) -> bool:
    """Whether an op converts stored weights, as in a float16 file: XNNPACK keeps them packed."""
    code = root.OperatorCodes(op.OpcodeIndex())
    if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) != schema.BuiltinOperator.DEQUANTIZE:
        return False
    return bool(root.Buffers(graph.Tensors(op.Inputs(0)).Buffer()).DataLength())
