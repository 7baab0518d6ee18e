"""The source files that a user's module consists of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import CompileError, UsageError
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import ModelSpec
from fieldtune.server.compiler.sources import check_defines, source_hashes

FILES = {
    "own.py": "import numpy\nimport helper\n\ndef f():\n    from pack.deep import thing\n",
    "helper.py": "import own  # a circle",
    "pack/__init__.py": "from . import beside",
    "pack/deep.py": "from .beside import x\nfrom ..helper import y",
    "pack/beside.py": "",
    "unused.py": "",
    "broken.py": "def f(:",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def test_modules_of_the_users_own_folders_are_followed(folder: Path) -> None:
    own = [str(folder)]
    found = source_hashes("own", own, sys.path)
    assert list(found) == ["helper", "own", "pack", "pack.beside", "pack.deep"]
    assert list(source_hashes("broken", own, sys.path)) == ["broken"]
    assert list(source_hashes("json", own, sys.path)) == ["json"]
    with pytest.raises(CompileError, match="module 'none' is not found: put it beside the study"):
        source_hashes("none", own, sys.path)


def test_an_artefact_is_not_taken_from_the_cache_once_a_helper_has_changed(folder: Path) -> None:
    cache, spec = ArtefactCache(folder / "cache"), ModelSpec("own:f", {}, (8,), 2)
    before = cache.key(spec, [str(folder)])
    (folder / "unused.py").write_text("1")
    assert cache.key(spec, [str(folder)]) == before
    (folder / "pack/beside.py").write_text("x = 2")
    assert cache.key(spec, [str(folder)]) != before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mine:modle", "module 'mine' has no 'modle' (did you mean 'model'?); it has model, Other"),
        ("mine:x", r"module 'mine' has no 'x'; it has model, Other"),
        ("mien:model", "there is no module 'mien': put it beside the study file, or install it"),
        ("broken:f", "broken.py, line 1: invalid syntax"),
        ("pack.nothing:f", "there is no module 'pack.nothing'"),
    ],
)
def test_a_name_that_a_module_does_not_have_is_refused(
    folder: Path, name: str, sentence: str
) -> None:
    (folder / "mine.py").write_text(
        "import json as j\ntry:\n    from pack import *\nexcept ImportError:\n    a = b, c = 1, 2\n"
        "def model(): ...\nclass Other: ...\ndef _own(): ...\n".replace("import *", "import d")
    )
    path = [str(folder), *sys.path]
    for known in ("mine:model", "mine:Other.method", "mine:j", "mine:d", "mine:b", "mine:_own"):
        check_defines(known, "task.model", path)
    with pytest.raises(UsageError) as refused:
        check_defines(name, "task.model", path)
    assert str(refused.value).startswith(f"task.model = {name!r} cannot be imported: ")
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "source", ["from json import *", "globals()['f'] = 1", "def __getattr__(name): ..."]
)
def test_names_that_only_importing_shows_are_not_refused(folder: Path, source: str) -> None:
    (folder / "mine.py").write_text(source)
    check_defines("mine:f", "task.model", [str(folder)])
    check_defines("sys:path", "task.model", [str(folder)])
