"""How long it takes until a model may be trained on a device: the compiler against the usual way.

usage: python simulations/benchmarks/compile_time.py [MODEL ...]

``compiled`` is a study's compile service with an empty cache, its process started and used once:
signatures to train, evaluate, infer, load and read, all compared with TensorFlow's autodiff in the
runtime. ``stock`` is TensorFlow's own recipe for training on devices, in a process that has
converted once as well: a ``tf.Module`` that trains and infers, saved and converted with
TensorFlow's ops (Flex, which tflite-runtime lacks); nothing is compared. Each: fastest of three.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
os.environ |= {"CUDA_VISIBLE_DEVICES": "-1"}

import keras
import tensorflow as tf
from absl import logging
from rich.console import Console
from rich.table import Table
from tensorflow.lite.python.convert_phase import ConverterError
from train_step import MODELS

from fieldtune.server.compiler.build import build_model
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import CompileOptions, Loss, ModelSpec
from fieldtune.server.compiler.service import CompileService

ROUNDS = 3
WARM = ModelSpec("logistic", {}, (4,), 2)


class Trained(tf.Module):  # type: ignore[misc]
    """A model with a training step, as TensorFlow's documentation writes it."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.model = build_model(spec)
        self.optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        self.optimizer.build(self.model.trainable_variables)
        if spec.options.loss == "mse":
            self.loss, y = keras.losses.MeanSquaredError(), [*spec.input_shape]
        else:
            self.loss, y = keras.losses.SparseCategoricalCrossentropy(from_logits=True), []
        batch = spec.options.micro_batch
        x = tf.TensorSpec([batch, *spec.input_shape], tf.float32)
        self.train = tf.function(self._train, [x, tf.TensorSpec([batch, *y], tf.float32)])
        self.infer = tf.function(self._infer, [x])

    def _train(self, x: Any, y: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = self.loss(y, self.model(x, training=True))
        weights = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}

    def _infer(self, x: Any) -> dict[str, Any]:
        return {"logits": self.model(x, training=False)}


def stock(spec: ModelSpec) -> tuple[float, int]:
    """Seconds that TensorFlow's recipe takes, and bytes of the file that it gives.

    Raises:
        ConverterError: it gives none.
    """
    began = time.perf_counter()
    keras.backend.clear_session()
    module = Trained(spec)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(
            module, folder, signatures={"train": module.train, "infer": module.infer}
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
        converter.experimental_enable_resource_variables = True
        size = len(converter.convert())
    return time.perf_counter() - began, size


def compiled(spec: ModelSpec) -> tuple[float, int]:
    """Seconds that the service takes, and bytes of the artefact."""
    with tempfile.TemporaryDirectory() as folder:
        service = CompileService(ArtefactCache(folder), log=Path(os.devnull))
        try:
            service.submit(WARM).result()
            began = time.perf_counter()
            artefact = service.submit(spec).result()
            return time.perf_counter() - began, len(artefact.model)
        finally:
            service.close()


def main(names: list[str]) -> int:
    """Print the table."""
    logging.set_verbosity(logging.ERROR)  # the stock exporter warns of each gradient
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    table = Table("model", "compiled (s)", "KiB", "stock (s)", "KiB", "compiled/stock")
    stock(WARM)
    for name in names or MODELS:
        shape, classes, knobs = MODELS[name]
        loss: Loss = "mse" if name == "autoencoder" else "sparse_categorical_crossentropy"
        spec = ModelSpec(name, knobs, shape, classes, CompileOptions(loss=loss))

        took, size = min(compiled(spec) for _ in range(ROUNDS))
        row = [name, f"{took:.2f}", f"{size / 1024:.0f}"]
        try:
            other, other_size = min(stock(spec) for _ in range(ROUNDS))
            row += [f"{other:.2f}", f"{other_size / 1024:.0f}", f"{took / other:.2f}"]
        except ConverterError:
            row += ["refused", "", ""]
        table.add_row(*row)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
