"""Deployable inference files: one input, batch 1, weights as constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.convert import Signature, saved_model, to_tflite, trace
from fieldtune.server.compiler.manifest import Variant, unflatten
from fieldtune.server.compiler.replaced_ops import operations_that_convert
from fieldtune.server.compiler.training import Layout

SIGNATURE = "serving_default"


def export_variants(
    layout: Layout,
    flat_weights: NDArray[np.float32],
    names: Sequence[Variant],
    calibration: NDArray[np.float32] | None = None,
) -> list[bytes]:
    """``.tflite`` files that map ``x`` float32 ``[1, *input_shape]`` to ``logits``.

    Args:
        layout: the model's weights (their present values are not used).
        flat_weights: float32 ``[parameters]`` in manifest order.
        names: fp32; fp16 (weights stored in half precision); dynamic (weights int8, activations
            float); int8 (weights and activations int8, input and output stay float32).
        calibration: float32 ``[n, *input_shape]``; the samples for the ranges of activations.

    Raises:
        CompileError: the weights do not fit, or int8 lacks calibration.
        ConverterError: an op has no built-in equivalent.
    """
    signatures = inference(layout, flat_weights)
    return [
        to_tflite(signatures) if name == "fp32" else _quantized(signatures, name, calibration)
        for name in names
    ]


def inference(layout: Layout, flat_weights: NDArray[np.float32]) -> dict[str, Signature]:
    """The traced signature of a variant; arguments and errors as :func:`export_variants`."""
    specs = layout.specs
    expected = sum(spec.size for spec in specs)
    if flat_weights.shape != (expected,):
        raise CompileError(
            f"{flat_weights.size} weights were given for a model of {expected}: use the "
            "configuration they were trained with"
        )
    tensors = list(unflatten(specs, flat_weights))
    ends = np.cumsum([len(layout.trainable), len(layout.statistics)])

    def infer(x: Any) -> Any:
        constants = [tf.constant(t) for t in tensors]
        trainable, statistics, frozen = (
            constants[: ends[0]],
            constants[ends[0] : ends[1]],
            constants[ends[1] :],
        )
        with operations_that_convert():
            logits, _, _ = layout.call(trainable, statistics, frozen, x, training=False)
        return {"logits": logits}

    return {SIGNATURE: trace(infer, {"x": tf.TensorSpec([1, *layout.model.inputs[0].shape[1:]])})}


def _quantized(
    signatures: dict[str, Signature], name: Variant, calibration: NDArray[np.float32] | None
) -> bytes:
    if name == "int8" and (calibration is None or not len(calibration)):
        raise CompileError("variant 'int8' needs calibration samples: pass some training data")
    with saved_model(signatures) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if name == "int8" and calibration is not None:

            def samples() -> Iterator[dict[str, NDArray[np.float32]]]:
                for sample in calibration:
                    yield {"x": sample[None].astype(np.float32)}

            converter.representative_dataset = samples
        converted: bytes = converter.convert()
    return converted
