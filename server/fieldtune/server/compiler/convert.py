"""From traced functions to TFLite, without TensorFlow's SavedModel exporter.

``tf.saved_model.save`` and ``TFLiteConverter.from_saved_model`` trace every function again, write a
checkpoint, load it all back and rewrite the flatbuffer in Python: 0.9 s for a small model, of which
the converter itself needs 0.1 s. Here each function is traced once; a version-1 SavedModel is built
directly (a graph with one call per signature) and passed to the converter.

Variables get no initial value: the file holds no weights and ``load`` must come first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.lite.python import convert as lite_convert
from tensorflow.lite.python.convert_phase import ConverterError

from fieldtune.profiles.common.errors import CompileError

__all__ = ["ConverterError", "Signature", "convert", "saved_model", "to_tflite", "trace"]


@dataclass(frozen=True)
class Signature:
    """A traced function with named inputs and outputs."""

    inputs: tuple[str, ...]
    concrete: Any


def trace(function: Callable[..., Any], inputs: Mapping[str, Any]) -> Signature:
    """Trace a function of tensors that returns a dict of tensors.

    Args:
        function: called with one tensor per input, in order.
        inputs: name -> ``tf.TensorSpec``.
    """
    traced = tf.function(function, input_signature=list(inputs.values()), autograph=False)
    return Signature(tuple(inputs), traced.get_concrete_function())


def to_tflite(signatures: Mapping[str, Signature]) -> bytes:
    """A ``.tflite`` of built-in ops with these signatures.

    Args:
        signatures: name -> traced function, which reads and assigns no variables.

    Raises:
        ConverterError: an op has no built-in equivalent.
    """
    with saved_model(signatures) as folder:
        return convert(folder, list(signatures))


def convert(folder: str, names: Sequence[str]) -> bytes:
    """A ``.tflite`` of the signatures of these names in a version-1 SavedModel.

    Raises:
        ConverterError: an op has no built-in equivalent.
    """
    converted: bytes = lite_convert.convert_saved_model(
        saved_model_dir=folder,
        saved_model_version=1,
        saved_model_tags={"serve"},
        saved_model_exported_names=list(names),
        target_ops=[tf.lite.OpsSet.TFLITE_BUILTINS],
        allow_custom_ops=False,
        enable_tflite_resource_variables=True,
        # Constant vectors become a fill op instead of bytes in the file.
        unfold_large_splat_constant=True,
    )
    return converted


@contextmanager
def saved_model(
    signatures: Mapping[str, Signature], variables: Sequence[Any] = ()
) -> Iterator[str]:
    """A temporary folder with a version-1 SavedModel of these signatures."""
    # The conversion process may still write there after an abandoned conversion.
    with tempfile.TemporaryDirectory(prefix="fieldtune-", ignore_cleanup_errors=True) as folder:
        model = _saved_model(signatures, variables)
        Path(folder, "saved_model.pb").write_bytes(model.SerializeToString())
        yield folder


def _saved_model(signatures: Mapping[str, Signature], variables: Sequence[Any]) -> Any:
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = model.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    graph = meta.graph_def
    graph.versions.producer = tf.version.GRAPH_DEF_VERSION
    handles = {}
    for number, variable in enumerate(variables):
        name = f"variable_{number}"
        node = graph.node.add(name=name, op="VarHandleOp")
        node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
        node.attr["dtype"].type = variable.dtype.as_datatype_enum
        node.attr["shared_name"].s = name.encode()
        handles[id(variable.handle)] = name
    library = {}
    for name, signature in signatures.items():
        concrete = signature.concrete
        library[concrete.function_def.signature.name] = concrete.function_def
        for nested in concrete.graph.as_graph_def().library.function:
            library[nested.signature.name] = nested
        _add_call(meta, name, signature, handles)
    graph.library.function.extend(library.values())
    return model


def _add_call(meta: Any, name: str, signature: Signature, handles: Mapping[int, str]) -> None:
    graph, concrete = meta.graph_def, signature.concrete
    definition = meta.signature_def[name]
    definition.method_name = "tensorflow/serving/predict"
    arguments = []
    # concrete.inputs ends with the captured handles, which have no name of their own.
    for key, tensor in zip(signature.inputs, concrete.inputs, strict=False):
        node = graph.node.add(name=f"{name}_{key}", op="Placeholder")
        node.attr["dtype"].type = tensor.dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
        arguments.append(node.name)
        _describe(definition.inputs[key], node.name, tensor)
    for captured in concrete.captured_inputs:
        arguments.append(handles.get(id(captured)) or _add_constant(graph, captured))
    call = graph.node.add(name=f"{name}_call", op="StatefulPartitionedCall", input=arguments)
    call.attr["Tin"].list.type.extend(t.dtype.as_datatype_enum for t in concrete.inputs)
    call.attr["Tout"].list.type.extend(t.dtype.as_datatype_enum for t in concrete.outputs)
    call.attr["f"].func.name = concrete.function_def.signature.name
    # A dict of outputs is flattened in the order of its sorted keys.
    for number, (key, tensor) in enumerate(sorted(concrete.structured_outputs.items())):
        node = graph.node.add(
            name=f"{name}_out_{key}", op="Identity", input=[f"{call.name}:{number}"]
        )
        node.attr["T"].type = tensor.dtype.as_datatype_enum
        _describe(definition.outputs[key], node.name, tensor)


def _add_constant(graph: Any, captured: Any) -> str:
    """A tensor that was computed outside of the function, as a node of the graph."""
    if captured.dtype == tf.resource:
        raise CompileError(
            "the model reads a variable that is not among its weights: create it with add_weight"
        )
    node = graph.node.add(name=f"constant_{len(graph.node)}", op="Const")
    node.attr["dtype"].type = captured.dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(captured.numpy()))
    return str(node.name)


def _describe(info: Any, node: str, tensor: Any) -> None:
    info.name = f"{node}:0"
    info.dtype = tensor.dtype.as_datatype_enum
    info.tensor_shape.CopyFrom(tensor.shape.as_proto())
