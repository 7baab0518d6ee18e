"""The compile service against its real child process (TensorFlow starts once per module)."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import CompileOptions, ModelSpec
from fieldtune.server.compiler.service import CompileService

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("own_compile_process")]

USER_MODEL = """
import keras

def model(*, input_shape, classes, units=4):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))

def broken(*, input_shape, classes):
    raise ValueError("no such thing as width 3")

def greedy(*, input_shape, classes):
    import resource
    return bytearray(resource.getrlimit(resource.RLIMIT_DATA)[0])

def endless(*, input_shape, classes):
    import os, resource, signal
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] < 2000
    os.kill(os.getpid(), signal.SIGXCPU)

def not_a_model(*, input_shape, classes):
    return "model"
"""


def mlp(width: int = 4, **options: object) -> ModelSpec:
    return ModelSpec("mlp", {"width": width}, (8, 8, 1), 10, CompileOptions(**options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    (folder / "mine.py").write_text(USER_MODEL)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path):
    with CompileService(
        ArtefactCache(folder / "cache"), [str(folder)], folder / "compile.log"
    ) as service:
        yield service


def test_equal_specs_share_one_compilation_and_then_come_from_the_cache(service):
    first, again = service.submit(mlp()), service.submit(mlp())
    assert first is again
    artefact = first.result()
    busy_s = service.busy_s
    kept = service.submit(mlp()).result()
    assert service.busy_s == busy_s
    assert kept.manifest == artefact.manifest
    assert kept.model == artefact.model
    np.testing.assert_array_equal(kept.initial_weights, artefact.initial_weights)


def test_what_is_worked_on_is_told_and_how_much_there_is(service, monkeypatch):
    told = []
    done = threading.Event()
    service._asked = service._begun = 0

    def progress(sentence):
        told.append(sentence)
        if not sentence:
            done.set()

    monkeypatch.setattr(service, "on_progress", progress)
    broken = service.submit(ModelSpec("mine:broken", {"units": 3}, (8, 8, 1), 10))
    with pytest.raises(CompileError):
        broken.result()
    assert done.wait(60)
    assert told == ["compiling mine:broken units 3, 1 of 1", ""]


def test_what_another_process_has_kept_meanwhile_is_what_all_use(service):
    theirs = service.submit(mlp()).result()
    theirs = replace(theirs, manifest=theirs.manifest.model_copy(update={"train_arena_bytes": 1}))
    ours = service.submit(mlp(6))
    service.cache.put(mlp(6), theirs)
    assert ours.result().manifest == theirs.manifest
    assert service.submit(mlp(6)).result().manifest == theirs.manifest


def test_the_seed_decides_the_initial_weights(service):
    a, b = (service.submit(mlp(5, seed=seed)).result() for seed in (1, 2))
    assert not np.array_equal(a.initial_weights, b.initial_weights)


def test_a_users_model_is_found_on_the_import_path_and_recompiled_when_its_source_changes(
    service, folder
):
    spec = ModelSpec("mine:model", {"units": 3}, (4, 4, 1), 3)
    assert service.submit(spec).result().manifest.parameters == 16 * 3 + 3
    changed = USER_MODEL.replace("Dense(classes)", "Dense(classes, use_bias=False)")
    (folder / "mine.py").write_text(changed)
    assert service.submit(spec).result().manifest.parameters == 16 * 3


def test_a_users_function_that_raises_gets_one_sentence(service):
    with pytest.raises(CompileError) as raised:
        service.submit(ModelSpec("mine:broken", {}, (4, 4, 1), 3)).result()
    message = str(raised.value)
    assert "mine:broken" in message
    assert "ValueError: no such thing as width 3" in message
    assert "Traceback" not in message


def test_a_function_that_returns_no_model_is_named(service):
    with pytest.raises(CompileError, match="returned str: return a keras"):
        service.submit(ModelSpec("mine:not_a_model", {}, (4, 4, 1), 3)).result()


@pytest.mark.parametrize(
    ("model", "knobs", "sentence"),
    [
        ("mlp", {"width": 10**9}, "weights of 238 GiB or more (dense"),
        ("mlp", {"width": 10**12}, "and a TFLite file holds 2 GiB at most: choose smaller values"),
        ("cnn1d", {"width": 8, "kernel": 10**9}, "conv1d"),
        ("transformer", {"heads": 10**9}, "query: 16 x 1000000000 x 1 numbers"),
        ("mobilenet", {"alpha": 1e9}, "a TFLite file holds 2 GiB"),
        ("gru", {"width": 10**6}, "a TFLite file holds 2 GiB"),
        ("mine:greedy", {}, "takes more memory to compile than is free: choose smaller values"),
        ("mine:endless", {}, "ended after ten minutes of processor time (choose smaller values)"),
    ],
)
def test_a_model_that_is_too_large_is_refused_before_it_takes_memory_or_hours(
    service, model, knobs, sentence
):
    with pytest.raises(CompileError) as refused:
        service.submit(ModelSpec(model, knobs, (8, 8, 1), 10)).result()
    assert sentence in str(refused.value)
    assert repr(model) in str(refused.value)
    assert service.submit(mlp()).result().manifest.parameters > 0


BUILDS_TOO_LARGE = """
import keras
import numpy as np
from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler import bounds
from fieldtune.server.compiler.build import build_model
from fieldtune.server.compiler.manifest import ModelSpec

bounds._free_bytes = lambda: 2**30
bounds._MOST_TENSORS = 20
for knobs in {"width": 1000}, {"width": 100_000}, {"depth": 9}, {"depth": 10}:
    try:
        print(build_model(ModelSpec("mlp", knobs, (8, 8, 1), 10)).count_params())
    except CompileError as refused:
        print(refused)
with bounds.counted_weights("model"):
    print(keras.layers.Layer().add_weight(shape=np.array([2, 3])).shape)
"""


def test_weights_that_take_more_memory_than_is_free_or_are_too_many_are_refused():
    done = subprocess.run([sys.executable, "-c", BUILDS_TOO_LARGE], capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    fits, wide, shallow, deep, shape = done.stdout.splitlines()
    assert shape == "(2, 3)", "shapes may be arrays"
    assert (fits, shallow) == ("75010", str(64 * 32 + 32 + 8 * (32 * 32 + 32) + 330))
    assert "{'width': 100000} has weights of 24.4 MiB or more, which take 1.91 GiB of mem" in wide
    assert wide.endswith("1 GiB are free: choose smaller values, or compile on a machine with more "
                         "memory")  # fmt: skip
    assert "{'depth': 10} has more than 20 weight tensors, the most that is compiled" in deep


def test_an_unknown_module_is_an_error_of_the_future(service):
    with pytest.raises(CompileError, match="'nowhere' is not found"):
        service.submit(ModelSpec("nowhere:model", {}, (4, 4, 1), 3)).result()


def converter(service: CompileService) -> int:
    """The process that converts: the fork of the compile process, with the same command line."""
    parent = service._running_child().process.pid
    children = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    command = Path(f"/proc/{parent}/cmdline").read_bytes()
    (found,) = [c for c in children if Path(f"/proc/{c}/cmdline").read_bytes() == command]
    return found


def ends(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_killed_child_fails_its_job_takes_its_converter_along_and_is_followed_by_its_like(
    service, folder
):
    before = service.submit(mlp(13)).result()
    # The jobs queue up behind each other, so the child is busy when it is killed.
    futures = [service.submit(mlp(width)) for width in (11, 12)]
    service.submit(mlp()).result()
    child, beside = service._running_child(), converter(service)
    os.kill(child.process.pid, signal.SIGKILL)
    with pytest.raises(CompileError, match="compile process ended with status -9"):
        futures[0].result()
    assert ends(beside)
    assert futures[1].result().manifest.parameters > 0
    service.cache = ArtefactCache(folder / "anew")
    again = service.submit(mlp(13)).result()
    assert (again.model, again.manifest) == (before.model, before.manifest)


def test_a_converter_that_was_killed_is_done_without_and_the_file_is_the_same(service, folder):
    artefact = service.submit(mlp(13)).result()
    os.kill(converter(service), signal.SIGKILL)
    service.cache = ArtefactCache(folder / "again")
    again = service.submit(mlp(13)).result()
    assert (again.model, again.manifest) == (artefact.model, artefact.manifest)


def test_variants_carry_the_given_weights(service):
    from ai_edge_litert.interpreter import Interpreter

    artefact = service.submit(mlp()).result()
    model = service.variants(mlp(), np.zeros_like(artefact.initial_weights)).result()["fp32"]
    interpreter = Interpreter(model_content=model, num_threads=1)
    logits = interpreter.get_signature_runner()(x=np.ones((1, 8, 8, 1), np.float32))["logits"]
    np.testing.assert_array_equal(logits, np.zeros((1, 10), np.float32))


def test_a_closed_service_takes_nothing(folder):
    service = CompileService(ArtefactCache(folder / "other"))
    service.close()
    with pytest.raises(CompileError, match="closed"):
        service.submit(mlp()).result()


def test_the_coordinators_side_imports_no_tensorflow():
    script = "import fieldtune.server.compiler.service, sys; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n"


GIVES_UP = """
import shutil
import threading
from itertools import count
from pathlib import Path
from fieldtune.server.compiler.convert import saved_model

over = threading.Event()

def write(folder):
    for number in count():
        if over.is_set():
            return
        Path(folder, str(number)).touch()

with saved_model({}) as folder:
    writer = threading.Thread(target=write, args=[folder])
    writer.start()
    while not Path(folder, "0").exists():
        pass
over.set()
writer.join()
shutil.rmtree(folder, ignore_errors=True)
"""


def test_who_gives_up_a_conversion_is_not_held_up_by_what_is_still_written():
    subprocess.run([sys.executable, "-c", GIVES_UP], check=True, timeout=120)
