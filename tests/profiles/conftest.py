"""Tiny models without TensorFlow, and a device whose values are round numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema

from fieldtune.profiles.device.profile import DeviceProfile, value_fields

DATA = Path(__file__).parent / "data"


@dataclass
class Op:
    """One op of a tiny model: builtin name, shapes of its operands and results, options."""

    name: str
    inputs: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[int]]
    options: Any = None
    type: str = "FLOAT32"


@dataclass
class Graph:
    """A subgraph and the key of its signature, if it has one."""

    ops: Sequence[Op] = field(default_factory=list)
    key: str | None = None


def build(graphs: Sequence[Graph]) -> bytes:
    """Pack graphs into a .tflite file; operands are not connected, which the reader ignores."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    model.operatorCodes, model.subgraphs, model.signatureDefs = [], [], []
    for index, graph in enumerate(graphs):
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = [], []
        for op in graph.ops:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, op.name)
            model.operatorCodes.append(code)
            operator = schema.OperatorT()
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.inputs = [add_tensor(subgraph, shape, op.type) for shape in op.inputs]
            operator.outputs = [add_tensor(subgraph, shape, op.type) for shape in op.outputs]
            if op.options is not None:
                kind = type(op.options).__name__.removesuffix("T")
                operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
                operator.builtinOptions = op.options
            subgraph.operators.append(operator)
        model.subgraphs.append(subgraph)
        if graph.key is not None:
            signature = schema.SignatureDefT()
            signature.signatureKey, signature.subgraphIndex = graph.key, index
            model.signatureDefs.append(signature)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def add_tensor(subgraph: Any, shape: Sequence[int], kind: str) -> int:
    tensor = schema.TensorT()
    tensor.shape, tensor.type = list(shape), getattr(schema.TensorType, kind)
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


@pytest.fixture
def build_model() -> Callable[[Sequence[Graph]], bytes]:
    return build


@pytest.fixture
def graph() -> type[Graph]:
    return Graph


@pytest.fixture
def op() -> type[Op]:
    return Op


@pytest.fixture
def data() -> Path:
    return DATA


ROUND_NUMBERS = {
    "cores": 4,
    "clock_mhz": 1000,
    "float32_one_thread_gflop_s": 1,
    "float32_all_cores_gflop_s": 4,
    "int8_one_thread_gop_s": 2,
    "int8_all_cores_gop_s": 8,
    "memory_copy_mb_s": 1000,
    "op_dispatch_us": 1,
    "python_call_us": 100,
    "memory_total_mib": 1024,
    "memory_free_mib": 500,
    "storage_total_mib": 8000,
    "storage_free_mib": 4000,
    "idle_w": 1,
    "loaded_w": 3,
    "radio_w": 1,
    "download_mbit_s": 80,
    "upload_mbit_s": 8,
    "latency_ms": 25,
    "sustained_share": 1,
    "availability": 1,
    "process_mib": 100,
    "inference_process_mib": 40,
}


def profile_table(**changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of a profile whose intervals have no width, with some keys changed."""
    units = value_fields()
    table: dict[str, Any] = {"title": "a board of round numbers"}
    for name in (*ROUND_NUMBERS, *(set(changes) - set(ROUND_NUMBERS))):
        number = ROUND_NUMBERS.get(name, 0)
        table[name] = {
            "value": number,
            "low": number,
            "high": number,
            "unit": units[name].unit,
            "basis": "estimated",
            "source": "chosen for arithmetic by hand",
        } | changes.get(name, {})
    return table


@pytest.fixture
def make_profile() -> Callable[..., DeviceProfile]:
    def make(**changes: dict[str, Any]) -> DeviceProfile:
        return DeviceProfile.model_validate(profile_table(**changes) | {"name": "round"})

    return make


@pytest.fixture
def write_profile(tmp_path: Path) -> Callable[..., Path]:
    """Write a profile as TOML; ``text`` is appended, ``without`` leaves a value out."""

    def write(
        name: str = "mine", text: str = "", without: str = "", **changes: dict[str, Any]
    ) -> Path:
        table = profile_table(**changes)
        lines = [f'title = "{table.pop("title")}"', text]
        for entry, keys in table.items():
            if entry != without:
                lines.append(f"[{entry}]")
                lines += [
                    f"{key} = {value!r}".replace("'", '"')
                    for key, value in keys.items()
                    if value is not None
                ]
        path = tmp_path / f"{name}.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write
