"""The subgraphs of a ``.tflite`` file: their ops and tensors, as plain values."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from fieldtune.profiles.costmodel.flops import Tensor

# Axes, permutations and paddings are short.
_MAX_VALUES = 16
_UNPACK = ("DEQUANTIZE", "DENSIFY")
_MAX_NAME = 60


class Op(NamedTuple):
    """An operator of a subgraph; an optional input that is absent is left out."""

    name: str  # of the builtin in the schema
    ins: list[int]  # indices of tensors
    outs: list[int]
    inputs: list[Tensor]
    outputs: list[Tensor]
    options: Any  # the op's unpacked ``builtinOptions``


class TfliteGraphs:
    """Reads ops and tensors of one unpacked flatbuffer.

    Args:
        schema: the module of ai-edge-litert.
        tree: the unpacked model.
    """

    def __init__(self, schema: Any, tree: Any) -> None:
        self.tree = tree
        self._builtin = _names(schema.BuiltinOperator)
        self._types = _names(schema.TensorType)
        self._unpacked_of: dict[int, frozenset[int]] = {}

    def op(self, graph: Any, op: Any) -> Op:
        """An operator of a subgraph, with its tensors."""
        ins, outs = [i for i in indices(op.inputs) if i >= 0], indices(op.outputs)
        tensors = [[self.tensor(graph, i) for i in which] for which in (ins, outs)]
        return Op(self._name(op), ins, outs, tensors[0], tensors[1], op.builtinOptions)

    def _name(self, op: Any) -> str:
        code = self.tree.operatorCodes[op.opcodeIndex]
        # Files before schema 3a use only the deprecated byte; later ones both fields or the new
        # one.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = self._builtin.get(number, f"BUILTIN_{number}")
        if name == "CUSTOM":
            custom = code.customCode or ""
            text = custom.decode(errors="replace") if isinstance(custom, bytes) else custom
            name = f"CUSTOM_{re.sub(r'[^A-Za-z0-9_]', '_', text)[:_MAX_NAME]}".rstrip("_")
        return name

    def is_unpacked_once(self, op: Op) -> bool:
        """Whether it converts stored weights, as in a float16 file: done when the model loads."""
        return op.name in _UNPACK and all(tensor.constant for tensor in op.inputs)

    def is_constant(self, graph: Any, index: int) -> bool:
        """Whether a tensor is stored in the file, or is absent (an index below 0)."""
        if index < 0:
            return True
        if index in self._unpacked(graph):
            return True
        data = self.tree.buffers[graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def tensor(self, graph: Any, index: int) -> Tensor:
        """Shape and type of a tensor, and the values of a short constant of integers."""
        tensor = graph.tensors[index]
        shape = () if tensor.shape is None else tuple(_size(size) for size in tensor.shape)
        kind = self._types.get(tensor.type, "FLOAT32")
        constant = self.is_constant(graph, index)
        values: tuple[int, ...] = ()
        if constant and kind == "INT32" and tensor.buffer:
            data = np.asarray(self.tree.buffers[tensor.buffer].data, np.uint8)
            if data.size <= _MAX_VALUES * 4:
                values = tuple(int(value) for value in data.view("<i4"))
        return Tensor(shape, kind, constant, values)

    def _unpacked(self, graph: Any) -> frozenset[int]:
        """Tensors that are converted from constants when the model loads."""
        if id(graph) not in self._unpacked_of:
            found: set[int] = set()
            self._unpacked_of[id(graph)] = frozenset()
            for op in graph.operators or ():
                if self._name(op) in _UNPACK and all(
                    self.is_constant(graph, i) or i in found for i in indices(op.inputs)
                ):
                    found.update(indices(op.outputs))
            self._unpacked_of[id(graph)] = frozenset(found)
        return self._unpacked_of[id(graph)]


def indices(tensors: Any) -> list[int]:
    """Indices of tensors; the schema has None for none."""
    return [] if tensors is None else [int(number) for number in tensors]


def producers(graph: Any) -> dict[int, int]:
    """Tensor -> the op that computes it."""
    return {
        int(tensor): number
        for number, op in enumerate(graph.operators or ())
        for tensor in indices(op.outputs)
    }


def _names(enumeration: Any) -> dict[int, str]:
    return {
        value: name
        for name, value in vars(enumeration).items()
        if not name.startswith("_") and isinstance(value, int)
    }


def _size(dimension: Any) -> int:
    """A dimension; an unknown one (-1) counts as 1."""
    return int(dimension) if dimension >= 0 else 1
