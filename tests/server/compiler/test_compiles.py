"""Every model that compiles is verified: it trains in the runtime as in TensorFlow."""

import re
import subprocess
import sys

import pytest
from strategies import drawn

from fieldtune.profiles.common.errors import CompileError
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.server.compiler.manifest import MODELS, CompileOptions, ModelSpec

pytestmark = pytest.mark.integration

SMALL = {
    "autoencoder": {"width": 16, "depth": 2, "code": 4},
    "cnn": {"width": 4, "dropout": 0.2},
    "cnn1d": {"width": 4},
    "ds_cnn": {"width": 8, "depth": 2},
    "gru": {"width": 4, "depth": 2},
    "logistic": {"l2": 0.01},
    "mlp": {"width": 8, "dropout": 0.2},
    "mobilenet": {"alpha": 0.1, "depth": 1},
    "resnet8": {"width": 4},
    "transformer": {"width": 8, "dropout": 0.1},
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_built_in_model_compiles_for_small_images(compiler, name):
    loss = "mse" if name == "autoencoder" else "sparse_categorical_crossentropy"
    options = CompileOptions(micro_batch=4, loss=loss)
    artefact = compiler.submit(ModelSpec(name, SMALL[name], (8, 8, 1), 10, options)).result()
    manifest = artefact.manifest
    assert manifest.parameters == sum(weight.size for weight in manifest.weights)
    infer, train = (Work.from_json(manifest.work[key]) for key in ("infer", "train"))
    assert manifest.flops_per_step == train.flops > infer.flops > 0
    assert manifest.train_arena_bytes > manifest.infer_arena_bytes > 0
    assert ("seed" in manifest.hyperparameters) == ("dropout" in SMALL[name] or name == "ds_cnn")


@pytest.mark.parametrize("number", range(12))
def test_a_drawn_model_compiles(compiler, number):
    assert compiler.submit(drawn(number)).result().manifest.artefact_bytes > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimizer_matches_keras_with_all_extras(compiler, optimizer):
    options = CompileOptions(
        micro_batch=3, optimizer=optimizer, extras=("weight_decay", "clip_norm", "proximal")
    )
    spec = ModelSpec("mlp", {"width": 3}, (4,), 3, options)
    manifest = compiler.submit(spec).result().manifest
    assert set(manifest.hyperparameters) >= {"weight_decay", "clip_norm", "proximal"}


@pytest.mark.parametrize(
    ("what", "shape", "says"),
    [
        ("conv3d", (4, 4, 4, 1), r"layer 'cube.*Conv3DBackpropFilterV2; use Conv2D"),
        ("nothing to train", (4,), "nothing to train"),
        ("two outputs", (4,), "one input and one output"),
        ("unused weight", (4,), "'unused/kernel' does not influence the loss"),
        ("long sequence", (300, 2), "'slow' runs over 300 steps, at most 256"),
        ("spectral", (4,), "'spectral.* without a condition"),
    ],
)
def test_what_cannot_be_compiled_is_named_with_what_to_use_instead(compiler, what, shape, says):
    with pytest.raises(CompileError, match=says):
        compiler.submit(ModelSpec("recipes:zoo", {"what": what}, shape, 3)).result()


def test_an_unknown_built_in_names_the_others_which_are_those_that_study_files_may_use(compiler):
    with pytest.raises(CompileError, match=r"choose .* or 'package") as refused:
        compiler.submit(ModelSpec("lenet", {}, (4,), 3)).result()
    named = re.search(r"choose (.*?),? or 'package", str(refused.value))
    assert named is not None
    assert named[1].split(", ") == sorted(MODELS)


def test_an_unknown_knob_names_the_model(compiler):
    says = (
        r"^model 'mlp' takes no 'widht' \(did you mean 'width'\?\): "
        r"\[space.model\] may have width, depth, dropout$"
    )
    with pytest.raises(CompileError, match=says):
        compiler.submit(ModelSpec("mlp", {"widht": 3}, (4,), 3)).result()


def test_parameters_that_cannot_be_given_by_name_are_not_offered(compiler):
    with pytest.raises(CompileError, match=r"takes no 'size'.*: \[space.model\] may have width$"):
        compiler.submit(ModelSpec("recipes:positional", {"size": 3}, (4,), 3)).result()


def test_weights_that_are_not_numbers_are_not_asked_whether_they_are_finite(compiler):
    compiler.submit(ModelSpec("recipes:zoo", {"what": "text"}, (4,), 3)).result()


def test_the_gate_stops_a_wrong_gradient_and_names_the_weight():
    script = """
from fieldtune.server.compiler import build, gradients
from fieldtune.server.compiler.manifest import ModelSpec
from fieldtune.profiles.common.errors import CompileError
from fieldtune.profiles.costmodel.tflite_work import Work
from tensorflow.python.framework import ops

ops.RegisterGradient("Wrong")(lambda op, dy: dy * 0.9)
gradients.OVERRIDES["Relu"] = "Wrong"
try:
    build.compile_spec(ModelSpec("mlp", {"width": 4}, (4,), 3))
except CompileError as stopped:
    raise SystemExit(str(stopped))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "'mlp': the compiled model does not train as TensorFlow does" in done.stderr
    assert "of call 1 dense/" in done.stderr
