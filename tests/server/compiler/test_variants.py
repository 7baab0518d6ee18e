"""Deployable variants."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.manifest import CompileOptions, ModelSpec

pytestmark = pytest.mark.integration

SPEC = ModelSpec("ds_cnn", {"width": 8, "depth": 1}, (10, 8, 1), 4, CompileOptions(micro_batch=2))


def logits(model, samples):
    run = Interpreter(model_content=model, num_threads=1).get_signature_runner()
    return np.concatenate([run(x=sample[None])["logits"] for sample in samples])


@pytest.fixture
def samples():
    return np.random.default_rng(0).normal(size=(16, 10, 8, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("fp32", 1e-5), ("fp16", 5e-3), ("dynamic", 0.1), ("int8", 0.2)]
)
def test_a_variant_infers_as_the_artefact_with_the_same_weights(
    compiler, trained, samples, name, tolerance
):
    net = trained(SPEC)
    for step in range(20):
        net.train(*net.samples(step), learning_rate=0.05)
    model = compiler.variants(SPEC, net.weights(), [name], samples).result()[name]
    pairs = [net.run["infer"](x=pair)["logits"] for pair in samples.reshape(8, 2, 10, 8, 1)]
    expected = np.concatenate(pairs)
    found = logits(model, samples)
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_int8_is_the_smallest_in_weights_and_needs_calibration(compiler, samples):
    spec = ModelSpec("mlp", {"width": 64}, (10, 8, 1), 4)
    weights = compiler.submit(spec).result().initial_weights
    names = ("fp32", "fp16", "int8")
    files = compiler.variants(spec, weights, names, samples).result()
    sizes = [len(files[name]) for name in names]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]
    with pytest.raises(CompileError, match="'int8' needs calibration"):
        compiler.variants(spec, weights, ["int8"]).result()


def test_weights_of_another_model_are_refused(compiler):
    with pytest.raises(CompileError, match="3 weights were given for a model of"):
        compiler.variants(SPEC, np.zeros(3, np.float32)).result()


def test_memory_is_measured_the_same_twice_and_grows_with_the_model(compiler, tmp_path):
    from fieldtune.server.compiler.runtime_memory import MemoryMeter

    artefact = compiler.submit(SPEC).result()
    small = compiler.submit(ModelSpec("logistic", {}, (4,), 2)).result()
    footprint = MemoryMeter()
    try:
        again = footprint.measure(artefact.model, ("load", "train"))
        other = footprint.measure(small.model, ("load", "train"))
        refused = footprint.measure(b"no model", ("train",))
    finally:
        footprint.close()
    assert again == artefact.manifest.train_arena_bytes
    assert other < again
    assert refused is None


def test_memory_is_the_same_to_some_bytes_whatever_the_process_came_from(
    compiler, tmp_path, monkeypatch
):
    from fieldtune.server.compiler import runtime_memory as footprint

    monkeypatch.setattr(footprint, "_ROUND", 1)
    model = compiler.submit(SPEC).result().model
    counts = set()
    for environment in ({}, {"LARGE": "x" * 3000}, {"PYTHONPYCACHEPREFIX": str(tmp_path)},
                        {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/"}):  # fmt: skip
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            measuring = footprint.MemoryMeter()
        try:
            counts.add(measuring.measure(model, ("load", "train")))
        finally:
            measuring.close()
    assert max(counts) - min(counts) <= 256  # a module not compiled yet made it 2 KB
