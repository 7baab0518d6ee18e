"""From a Keras model to an artefact, and from weights to a deployable variant."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import CompileError, did_you_mean
from fieldtune.profiles.common.load_object import load_object
from fieldtune.server.compiler.bounds import OUT_OF_MEMORY, counted_weights
from fieldtune.server.compiler.conversion_process import converting
from fieldtune.server.compiler.convert import ConverterError
from fieldtune.server.compiler.diagnosis import explain
from fieldtune.server.compiler.manifest import (
    Artefact,
    CompileOptions,
    Manifest,
    ModelSpec,
    Variant,
)
from fieldtune.server.compiler.models import BUILTIN
from fieldtune.server.compiler.runtime_memory import memory_bytes
from fieldtune.server.compiler.training import Layout, Program
from fieldtune.server.compiler.variants import SIGNATURE, export_variants, inference
from fieldtune.server.compiler.verify import Verifier

__all__ = ["build_model", "compile_model", "compile_spec", "export_spec", "export_variants"]


_SOURCES: dict[str, bytes] = {}
"""User modules that were imported -> their source."""

# Otherwise Keras adds a page of call arguments to every error message raised in a layer.
keras.config.disable_traceback_filtering()


def compile_spec(spec: ModelSpec) -> Artefact:
    """Build a spec's model and compile it.

    Raises:
        CompileError: as :func:`build_model` and :func:`compile_model`.
    """
    return compile_model(build_model(spec), spec.options, spec.model)


def export_spec(
    spec: ModelSpec,
    flat_weights: NDArray[np.float32],
    names: Sequence[Variant],
    calibration: NDArray[np.float32] | None = None,
) -> list[bytes]:
    """Variants of a spec's model with these weights; see :func:`export_variants`."""
    model = build_model(spec)
    try:
        return export_variants(Layout(model), flat_weights, names, calibration)
    except ConverterError as refused:
        raise explain(spec.model, refused) from refused


def build_model(spec: ModelSpec) -> Any:
    """The uncompiled ``keras.Model`` of a spec, its initial weights drawn from the spec's seed.

    Raises:
        CompileError: the builder is unknown, raises, or returns anything but a model with
            one input and one output; or the model does not fit the data.
    """
    keras.utils.set_random_seed(spec.options.seed)
    builder = _builder(spec.model)
    _check_arguments(spec, builder)
    try:
        with counted_weights(f"model {spec.model!r} with {dict(spec.knobs)}"):
            model = builder(**spec.knobs, input_shape=tuple(spec.input_shape), classes=spec.classes)
    except (CompileError, *OUT_OF_MEMORY):
        raise
    except (Exception, SystemExit) as raised:
        raise CompileError(
            f"model {spec.model!r} with {dict(spec.knobs)} raised {type(raised).__name__}: {raised}"
        ) from raised
    if not isinstance(model, keras.Model):
        raise CompileError(
            f"model {spec.model!r} returned {type(model).__name__}: return a keras.Model"
        )
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise CompileError(
            f"model {spec.model!r} must have one input and one output: build it with "
            "keras.Sequential (with an Input) or keras.Model(inputs, outputs)"
        )
    shape = tuple(model.inputs[0].shape[1:])
    if shape != tuple(spec.input_shape):
        raise CompileError(
            f"model {spec.model!r} takes {shape}, the data has {tuple(spec.input_shape)}: use the "
            "input_shape it is called with"
        )
    outputs = tuple(model.outputs[0].shape[1:])
    if spec.options.loss == "sparse_categorical_crossentropy" and outputs != (spec.classes,):
        raise CompileError(
            f"model {spec.model!r} gives {outputs}, the data has {spec.classes} classes: end it in "
            "keras.layers.Dense(classes)"
        )
    if spec.options.loss == "sparse_categorical_crossentropy" and _ends_in_softmax(model):
        raise CompileError(
            f"model {spec.model!r} ends in softmax, which the loss applies itself: end it in "
            "logits, keras.layers.Dense(classes) without activation"
        )
    numbers = (weights for weights in model.get_weights() if weights.dtype.kind in "fc")
    if not all(np.isfinite(weights).all() for weights in numbers):
        raise CompileError(
            f"model {spec.model!r} starts with weights that are not finite: check its initializers"
        )
    return model


def _check_arguments(spec: ModelSpec, builder: Any) -> None:
    """Refuse parameters of ``[space.model]`` that the builder does not have."""
    try:
        taken = inspect.signature(builder).parameters
    except (TypeError, ValueError):  # of a callable that does not say what it takes
        return
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values()):
        return
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [
        name
        for name, each in taken.items()
        if each.kind in by_name and name not in ("input_shape", "classes")
    ]
    for name in spec.knobs:
        if name not in names:
            raise CompileError(
                f"model {spec.model!r} takes no {name!r}{did_you_mean(name, names)}: [space.model] "
                f"may have {', '.join(names) or 'nothing'}"
            )


def _ends_in_softmax(model: Any) -> bool:
    """Whether the outputs of a classifier are probabilities, by whatever ops it computes them."""
    x = np.random.default_rng(0).normal(size=(4, *model.inputs[0].shape[1:])).astype(np.float32)
    outputs = np.asarray(model(x, training=False))
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-4))


def _builder(name: str) -> Any:
    if ":" not in name:
        if name not in BUILTIN:
            raise CompileError(
                f"model {name!r} is not built in: choose {', '.join(sorted(BUILTIN))}, or "
                "'package.module:function'"
            )
        return BUILTIN[name]
    return load_object(name, setting="task.model", error=CompileError, import_module=_imported)


def _imported(name: str) -> Any:
    """A user's module, read again where its source has changed since."""
    module = importlib.import_module(name)
    if module.__file__ is not None:
        source = Path(module.__file__).read_bytes()
        if _SOURCES.setdefault(name, source) != source:
            module = importlib.reload(module)
            _SOURCES[name] = source
    return module


def compile_model(model: Any, options: CompileOptions, name: str | None = None) -> Artefact:
    """Make a model's trainable artefact, and verify it against TensorFlow.

    Args:
        model: a built ``keras.Model`` with one input and one output, ending in logits; its
            present weights become the initial ones.
        options: how it is trained.
        name: of the model in error messages; the model's own name by default.

    Raises:
        CompileError: an op has no built-in equivalent (names layer, op and alternative), or the
            artefact does not agree with TensorFlow.
    """
    name = name or model.name
    layout = Layout(model)
    program = Program(layout, options)
    initial = layout.flat()
    try:
        with (
            converting(program.signatures(), program.variables) as training,
            converting(inference(layout, initial)) as inferring,
            ThreadPoolExecutor(1) as beside,
        ):
            verifier = Verifier(layout, options, name)
            trainable = training.model()
            train_bytes = beside.submit(memory_bytes, trainable, ("load", "train"))
            verifier.check(trainable)
            work = training.work()
            deployable = inferring.model()
            (infer,) = inferring.work().values()
    except ConverterError as refused:
        raise explain(name, refused) from refused
    manifest = Manifest(
        artefact_sha256=hashlib.sha256(trainable).hexdigest(),
        input_shape=program.input_shape,
        classes=program.output_shape[-1],
        micro_batch=options.micro_batch,
        hyperparameters=program.hyperparameters,
        weights=layout.specs,
        parameters=initial.size,
        flops_per_step=work["train"].flops,
        work={
            "train": work["train"].to_json(),
            "evaluate": work["evaluate"].to_json(),
            "infer": infer.to_json(),
        },
        train_arena_bytes=train_bytes.result(),
        infer_arena_bytes=memory_bytes(deployable, (SIGNATURE,)),
        artefact_bytes=len(trainable),
        model_bytes=len(deployable),
    )
    return Artefact(trainable, initial, manifest)
