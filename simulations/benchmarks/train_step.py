"""How long one training step takes: TFLite artefact against TensorFlow, one thread each.

usage: python simulations/benchmarks/train_step.py [MODEL ...]

TensorFlow runs the same model, loss and SGD with momentum in a ``tf.function`` (GradientTape).
Both take the fastest of several rounds of steps over one batch of 8; ratio = TFLite / TensorFlow.
``floor`` is the least ratio that the core allows: the step's floating-point operations at the speed
of the fastest matrix product found in the same run, over TensorFlow's time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
os.environ |= {"CUDA_VISIBLE_DEVICES": "-1"}  # oneDNN stays on, as TensorFlow comes

import keras
import numpy as np
import tensorflow as tf

from fieldtune.server.compiler.build import build_model, compile_spec
from fieldtune.server.compiler.manifest import CompileOptions, Loss, ModelSpec, unflatten

MODELS: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
    "logistic": ((8, 8, 1), 10, {}),
    "mlp": ((8, 8, 1), 10, {"width": 32}),
    "cnn": ((28, 28, 1), 10, {}),
    "cnn1d": ((64, 6), 6, {}),
    "gru": ((28, 28), 10, {}),
    "transformer": ((49, 10, 1), 12, {}),
    "ds_cnn": ((49, 10, 1), 12, {"dropout": 0.0}),
    "resnet8": ((32, 32, 3), 10, {}),
    "autoencoder": ((640,), 0, {}),
    "mobilenet": ((96, 96, 3), 2, {}),
}


def fastest_ms(step: Callable[[], Any], seconds: float = 1.5) -> float:
    """Milliseconds of a step, in the fastest of the rounds that fit into ``seconds``."""
    step()
    started = time.perf_counter()
    step()
    count = max(int(0.1 / max(time.perf_counter() - started, 1e-6)), 1)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(count):
            step()
        best = min(best, (time.perf_counter() - started) / count)
    return 1000 * best


def _waited_for(product: Callable[[], Any]) -> None:
    product().numpy()


def fastest_gflops() -> float:
    """Billions of floating-point operations a second in matrix products, one thread: the best."""
    best = 0.0
    for size in (192, 256, 384, 512):
        a = tf.random.normal([size, size], seed=0)
        product = tf.function(partial(tf.matmul, a, a), autograph=False)
        ms = fastest_ms(partial(_waited_for, product), seconds=1.0)
        best = max(best, 2 * size**3 / ms / 1e6)
    return best


def batch(spec: ModelSpec) -> tuple[Any, Any]:
    """A random batch of inputs and targets."""
    rng = np.random.default_rng(0)
    size = spec.options.micro_batch
    x = rng.normal(size=(size, *spec.input_shape)).astype(np.float32)
    if spec.options.loss == "mse":
        return x, x
    return x, rng.integers(0, spec.classes, size).astype(np.int32)


def tensorflow_ms(spec: ModelSpec) -> float:
    """One step of TensorFlow."""
    model = build_model(spec)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    weights = [v.value for v in model.trainable_variables]
    autoencoder = spec.options.loss == "mse"

    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            output = model(x, training=True)
            if autoencoder:
                loss = tf.reduce_mean(tf.square(output - y))
            else:
                each = tf.nn.sparse_softmax_cross_entropy_with_logits(y, output)
                loss = tf.reduce_mean(each)
        optimizer.apply(tape.gradient(loss, weights), model.trainable_variables)
        return loss

    compiled = tf.function(step, autograph=False)
    x, y = (tf.constant(array) for array in batch(spec))
    return fastest_ms(lambda: compiled(x, y).numpy())


def tflite_ms(spec: ModelSpec) -> tuple[float, float]:
    """One call of ``train``, and its millions of floating-point operations."""
    from ai_edge_litert.interpreter import Interpreter

    artefact = compile_spec(spec)
    interpreter = Interpreter(model_content=artefact.model, num_threads=1)
    parts = unflatten(artefact.manifest.weights, artefact.initial_weights)
    load = {f"w{number:03d}": part for number, part in enumerate(parts)}
    interpreter.get_signature_runner("load")(**load)
    train = interpreter.get_signature_runner("train")
    x, y = batch(spec)
    values = {"learning_rate": 0.01, "momentum": 0.9, "seed": 1.0}
    scalars = {
        name: np.full(1, values[name], np.float32) for name in artefact.manifest.hyperparameters
    }
    weight = np.full(len(x), 1 / len(x), np.float32)
    one = np.ones(1, np.float32)
    ms = fastest_ms(lambda: train(x=x, y=y, sample_weight=weight, apply=one, **scalars))
    return ms, artefact.manifest.flops_per_step / 1e6


def main(names: list[str]) -> int:
    """Print the table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    gflops = fastest_gflops()
    print(f"fastest matrix product: {gflops:.0f} GFLOP/s")
    print(
        f"{'model':12} {'input':>8} {'MFLOP':>7} {'TF ms':>8} {'TFLite ms':>9} {'ratio':>6} floor"
    )
    for name in names or MODELS:
        shape, classes, knobs = MODELS[name]
        loss: Loss = "mse" if name == "autoencoder" else "sparse_categorical_crossentropy"
        spec = ModelSpec(name, knobs, shape, classes, CompileOptions(loss=loss))
        theirs, (ours, mflop) = tensorflow_ms(spec), tflite_ms(spec)
        size, floor = "x".join(map(str, shape)), mflop / gflops / theirs
        print(
            f"{name:12} {size:>8} {mflop:7.2f} {theirs:8.3f} {ours:9.3f} {ours / theirs:6.2f} "
            f"{floor:5.2f}",
            flush=True,
        )
        keras.backend.clear_session()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
