"""The artefact cache, without TensorFlow."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fieldtune.profiles.common.errors import CompileError, StorageError
from fieldtune.server.compiler.cache import ArtefactCache, default_folder
from fieldtune.server.compiler.manifest import Artefact, CompileOptions, Manifest, ModelSpec


def artefact(content: bytes = b"model") -> Artefact:
    manifest = Manifest(
        artefact_sha256=hashlib.sha256(content).hexdigest(),
        input_shape=(4,),
        classes=2,
        micro_batch=8,
        hyperparameters=("learning_rate",),
        weights=(),
        parameters=3,
        flops_per_step=1.0,
        work={},
        train_arena_bytes=1,
        infer_arena_bytes=1,
        artefact_bytes=len(content),
        model_bytes=1,
    )
    return Artefact(content, np.arange(3, dtype=np.float32), manifest)


SPEC = ModelSpec("mlp", {"width": 4, "depth": 2}, (8, 8, 1), 10)


def test_what_is_put_is_got_back(tmp_path):
    cache = ArtefactCache(tmp_path)
    assert cache.get(SPEC) is None
    cache.put(SPEC, artefact())
    kept = cache.get(SPEC)
    assert kept is not None
    assert kept.model == b"model"
    assert kept.manifest == artefact().manifest
    np.testing.assert_array_equal(kept.initial_weights, [0, 1, 2])


def test_the_order_of_knobs_and_extras_does_not_matter(tmp_path):
    cache = ArtefactCache(tmp_path)
    a = ModelSpec("mlp", {"depth": 2, "width": 4}, (8, 8, 1), 10)
    assert cache.key(a) == cache.key(SPEC)
    both = ("proximal", "clip_norm")
    assert CompileOptions(extras=both) == CompileOptions(extras=both[::-1])


@pytest.mark.parametrize(
    "other",
    [
        ModelSpec("mlp", {"width": 5, "depth": 2}, (8, 8, 1), 10),
        ModelSpec("mlp", {"width": 4, "depth": 2}, (8, 9, 1), 10),
        ModelSpec("mlp", {"width": 4, "depth": 2}, (8, 8, 1), 11),
        ModelSpec("mlp", {"width": 4, "depth": 2}, (8, 8, 1), 10, CompileOptions(seed=1)),
    ],
)
def test_another_spec_has_another_key(tmp_path, other):
    cache = ArtefactCache(tmp_path)
    assert cache.key(other) != cache.key(SPEC)


def test_a_damaged_entry_is_named_and_counts_as_missing(tmp_path, caplog):
    cache = ArtefactCache(tmp_path)
    cache.put(SPEC, artefact())
    (entry,) = tmp_path.rglob("*.bin")
    whole = entry.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])  # in the last weight
    for damaged in (b"", whole[:7], whole[:-5], whole[:-3], flipped, whole.replace(b"model", b"m")):
        entry.write_bytes(damaged)
        caplog.clear()
        assert cache.get(SPEC) is None
        assert caplog.messages == [f"{entry} is damaged: its model is compiled again"]


def test_many_writers_leave_one_whole_entry(tmp_path):
    cache = ArtefactCache(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.put(SPEC, artefact()), range(32)))
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".bin"]
    assert cache.get(SPEC) is not None


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="FIELDTUNE_CACHE"):
        ArtefactCache(tmp_path / "file" / "cache").put(SPEC, artefact())


def test_a_users_module_is_found_in_packages_without_importing_them(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "inner.py").write_text("x = 1")
    cache = ArtefactCache(tmp_path / "cache", [str(tmp_path)])
    spec = ModelSpec("pack.inner:build", {}, (4,), 2)
    before = cache.key(spec)
    (package / "inner.py").write_text("x = 2")
    assert cache.key(spec) != before
    with pytest.raises(CompileError, match=r"pack\.outer"):
        cache.key(ModelSpec("pack.outer:build", {}, (4,), 2))


def test_the_environment_moves_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FIELDTUNE_CACHE", str(tmp_path))
    assert default_folder() == tmp_path


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"micro_batch": 0}, "choose 1 to 1024"),
        ({"optimizer": "lion"}, "choose one of sgd, adam"),
        ({"loss": "hinge"}, "choose one of sparse"),
        ({"extras": ("momentum",)}, "choose one of weight_decay"),
        ({"optimizer": "adam", "nesterov": True}, "needs optimizer = 'sgd'"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_a_wrong_option_names_the_choices(wrong, says):
    with pytest.raises(CompileError, match=says):
        CompileOptions(**wrong)
