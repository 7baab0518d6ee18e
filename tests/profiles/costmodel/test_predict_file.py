import contextlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.predict_file import predict_files
from fieldtune.profiles.costmodel.tflite_reader import TfliteFile
from fieldtune.profiles.device.kernel_rates import KernelRates
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.measure.tflite_graphs import GraphBuilder
from fieldtune.simulations.cli import app

PI = "raspberry-pi-4b"


def run(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def predicted(path, **options):
    (found,) = predict_files([str(path)], {PI: load_profile(PI)}, **options)
    return found


def test_one_entry_a_model_and_device_in_the_order_given(data, tmp_path):
    first, second = data / "mlp_8x8_16_10.tflite", tmp_path / "other.tflite"
    second.write_bytes(first.read_bytes())
    devices = [PI, "raspberry-pi-5"]
    options = [part for name in devices for part in ("--device", name)]
    done = run(first, second, *options, "--threads", "all", "--format", "json")
    assert done.exit_code == 0, done.output
    entries = json.loads(done.stdout)
    pairs = [(str(model), name) for model in (first, second) for name in devices]
    assert [(each["model"], each["device"]) for each in entries] == pairs
    for each in entries:
        assert set(each) == {
            "model", "device", "threads", "latency_ms", "latency_basis", "peak_memory_mib",
            "energy_mj", "storage_mib",
        }  # fmt: skip
        assert each["threads"] == 4
        assert each["storage_mib"] == first.stat().st_size / 2**20
        for quantity in ("latency_ms", "peak_memory_mib", "energy_mj"):
            found = each[quantity]
            assert 0 < found["low"] <= found["value"] <= found["high"]


def test_several_devices_may_follow_one_option(data):
    model = data / "mlp_8x8_16_10.tflite"
    repeated = run(model, "--device", PI, "--device", "raspberry-pi-5", "--format", "json")
    assert (
        run(model, "--device", PI, "raspberry-pi-5", "--format", "json").stdout == repeated.stdout
    )
    assert (
        run("--device", PI, "raspberry-pi-5", model, "--format", "json").stdout == repeated.stdout
    )
    assert "no model is given" in str(run("--device", PI, "raspberry-pi-5").exception)


def test_the_table_names_the_kernels_that_take_the_time(data):
    done = run(data / "mlp_8x8_16_10.tflite", "--device", PI, "raspberry-pi-3b-plus")
    assert done.exit_code == 0
    assert "mlp_8x8_16_10.tflite\n" in done.stdout
    assert "raspberry-pi-4b, infer: " in done.stdout
    assert "matmul.batch_matmul" in done.stdout
    assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (None, {}, "cannot be read: No such file"),
        (b"not a model at all", {}, "not a TFLite file"),
        (b"\x1c\0\0\0TFL3" + b"\xff" * 64, {}, "is damaged"),
        (b"", {"threads": 9}, "raspberry-pi-4b has 4 cores; give 1 to 4, or all"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_sentence(tmp_path, content, options, said):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        predicted(path, **options)


def test_a_file_with_random_damage_is_refused_or_predicted(data, tmp_path):
    whole, path = (data / "mlp_8x8_16_10.tflite").read_bytes(), tmp_path / "model.tflite"
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(8, len(whole), 8):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(UsageError):
            assert predicted(path).latency_ms.value > 0


def test_every_truncation_of_a_file_is_refused_or_predicted(data, tmp_path):
    whole, path = (data / "mlp_8x8_16_10.tflite").read_bytes(), tmp_path / "model.tflite"
    for size in range(0, len(whole), 997):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError):
            predicted(path)


def convolution(weights, activations, unpacked=False):
    """A convolution with stored weights of a type, on activations of a type."""
    builder = GraphBuilder()
    first = builder.tensor((1, 8, 8, 4), activations)
    stored = builder.constant(np.zeros((8, 3, 3, 4), weights))
    if unpacked:
        whole = builder.tensor((8, 3, 3, 4))
        builder.op("DEQUANTIZE", [stored], [whole])
        stored = whole
    result = builder.tensor((1, 8, 8, 8), activations)
    builder.op("CONV_2D", [first, stored], [result], ("Conv2DOptions", {}))
    return builder.finish([first], [result])


@pytest.mark.parametrize(
    ("weights", "activations", "device", "said"),
    [
        ("float32", "FLOAT32", PI, "fitted (one thread; families left out: nine in ten within "),
        ("int8", "INT8", PI, "fitted (int8 one thread; models left out: nine in ten within "),
        ("int8", "FLOAT32", PI, "not fitted: estimate (dynamic-range kernels have no published"),
        (
            "float32",
            "FLOAT32",
            "rk3588",
            "not fitted: estimate (no latency of the kind 'one thread' was fitted)",
        ),
    ],
)
def test_how_a_latency_is_known_is_said(tmp_path, weights, activations, device, said):
    path = tmp_path / "model.tflite"
    path.write_bytes(convolution(weights, activations))
    entry = json.loads(run(path, "--device", device, "--format", "json").stdout)[0]
    assert entry["latency_basis"].startswith(said)
    # A single small convolution is mostly a call from Python.
    assert entry["latency_basis"].endswith("; mostly overheads, which are estimates")
    assert said.partition("(")[0] in run(path, "--device", device).stdout


@pytest.mark.parametrize(
    ("weights", "activations", "threads", "said"),
    [
        ("float32", "FLOAT32", 1, "measured kernels"),
        ("float32", "FLOAT32", 4, "kernels measured with one thread"),
        ("int8", "INT8", 1, "not measured: estimate (no int8 kernel was measured"),
        ("int8", "FLOAT32", 4, "not measured: estimate (no dynamic kernel was measured"),
    ],
)
def test_only_what_was_measured_is_said_to_be(tmp_path, weights, activations, threads, said):
    """A machine's float32 kernels were measured with one thread, and nothing else."""
    path = tmp_path / "model.tflite"
    path.write_bytes(convolution(weights, activations))
    rates = {"op_us": 2000.0, "low": 0.9, "high": 1.1, "basis": "measured", "source": "here"}
    profile = load_profile(PI).model_copy(
        update={"classes": {"conv.conv_2d": KernelRates(**rates)}, "held_out": {}}
    )
    (found,) = predict_files([str(path)], {"mine": profile}, threads=threads)
    assert found.latency_basis.startswith(said)
    unsure = found.latency_ms.high / found.latency_ms.value
    assert (unsure > 3) == said.startswith("not measured")


@pytest.mark.parametrize(
    ("file", "kernel"),
    [
        (convolution("float32", "FLOAT32"), "conv.conv_2d"),
        (convolution("float16", "FLOAT32", unpacked=True), "conv.conv_2d"),
        (convolution("int8", "FLOAT32"), "conv.conv_2d.dynamic"),
        (convolution("int8", "INT8"), "conv.conv_2d.int8"),
    ],
)
def test_kernels_are_told_apart_by_precision_and_runtime(file, kernel):
    # Weights in half precision are unpacked once, when the model loads, by either runtime.
    file = TfliteFile(file)
    assert {n for n in file.work("main").classes if not n.startswith("call")} == {kernel}
    plain = {n for n in file.work("main", "plain").classes if not n.startswith("call")}
    assert plain == {f"{kernel}.plain"}


def half_precision(size):
    """A dense layer whose weights are stored as float16."""
    builder = GraphBuilder()
    first, whole, result = (builder.tensor(shape) for shape in ((1, size), (size, size), (1, size)))
    stored = builder.constant(np.ones((size, size), np.float16))
    builder.op("DEQUANTIZE", [stored], [whole])
    builder.op("FULLY_CONNECTED", [first, whole], [result], ("FullyConnectedOptions", {}))
    return builder.finish([first], [result])


def test_weights_of_half_precision_are_in_memory_in_full(tmp_path):
    """Resident memory of a process with such a file, beyond its start: 120 to 139 MiB of 36 to 40.

    Measured on x86-64 with ai-edge-litert 2.3; published for Raspberry Pis: 272 of 49 MiB.
    """
    path = tmp_path / "model.tflite"
    path.write_bytes(half_precision(4096))
    size_mib = path.stat().st_size / 2**20
    for runtime in ("xnnpack", "plain"):
        memory = predicted(path, runtime=runtime).peak_memory_mib
        assert memory.low < 40 + 3.3 * size_mib < memory.high
    assert memory.value == pytest.approx(45 + 3.1 * size_mib, rel=0.01)
    assert predicted(path).peak_memory_mib.high > 40 + 5 * size_mib


def test_a_runtime_without_xnnpack_keeps_one_copy_of_the_weights(tmp_path):
    """Measured on x86-64 with ai-edge-litert 2.3: 72 MiB take 78 beyond the process's start."""
    builder = GraphBuilder()
    first, result = builder.tensor((1, 2048)), builder.tensor((1, 2048))
    stored = builder.constant(np.ones((2048, 2048), np.float32))
    builder.op("FULLY_CONNECTED", [first, stored], [result], ("FullyConnectedOptions", {}))
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.finish([first], [result]))
    assert predicted(path).peak_memory_mib.value == pytest.approx(45 + 2 * 16, abs=0.2)
    plain = predicted(path, runtime="plain").peak_memory_mib
    assert plain.value == pytest.approx(45 + 1.1 * 16, abs=0.2)


def test_an_op_without_known_shapes_counts_by_its_bytes(build_model, graph, op):
    strange = [op("CONV_2D", [[], []], [[7]]), op("CUSTOM", [[3, 4]], [[5]])]
    work = TfliteFile(build_model([graph(strange, "main")])).work("main")
    names = {name for name in work.classes if not name.startswith("call")}
    assert names == {"other.unknown", "other.custom.plain"}
    assert work.moved_bytes == 4 * (1 + 1 + 7) + 4 * (12 + 5)


def test_the_body_of_a_loop_counts_as_often_as_it_runs(data):
    """The file multiplies matrices of 64 x 64 ten times."""
    file = TfliteFile((data / "while_10x.tflite").read_bytes())
    products = [n for n in file.work("main").classes if n.startswith("matmul")]
    assert sum(file.work("main").classes[n].count for n in products) == 10
    assert file.work("main").flops == pytest.approx(10 * 2 * 64**3, rel=0.01)


def test_a_loop_of_which_the_file_does_not_say_how_often_it_runs_is_unsure(data):
    found = predicted(data / "while_dynamic.tflite")
    assert "a loop counts once" in found.latency_basis
    assert found.latency_ms.high > 9 * found.latency_ms.value


def test_a_custom_op_is_named_and_unsure(data):
    found = predicted(data / "custom.tflite")
    assert "not known" in found.latency_basis
    assert "custom_betainc" in found.latency_basis
    known = predicted(data / "while_10x.tflite")
    assert "not known" not in known.latency_basis


def test_kernels_that_no_published_latency_has_are_named_and_unsure(tmp_path):
    """Softmax takes most of this one."""
    builder = GraphBuilder()
    first, result = builder.tensor((1000, 1000)), builder.tensor((1000, 1000))
    builder.op("SOFTMAX", [first], [result], ("SoftmaxOptions", {"beta": 1.0}))
    path = tmp_path / "softmax.tflite"
    path.write_bytes(builder.finish([first], [result]))
    found = predicted(path)
    assert "unsure: softmax" in found.latency_basis
    assert found.latency_ms.high > 1.9 * found.latency_ms.value
    assert found.latency_ms.low < 0.6 * found.latency_ms.value
