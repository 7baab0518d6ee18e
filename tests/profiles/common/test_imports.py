"""Imports that leave out what is not used, and that the garbage collector does not look at."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldtune.profiles.common.imports import uncollected, without


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that is forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "imported_here.py"
    sys.modules.pop("imported_here", None)


def test_a_package_is_missing_in_the_block_and_there_after_it(module: Path) -> None:
    module.write_text("")
    with without(module.stem), pytest.raises(ModuleNotFoundError):
        importlib.import_module(module.stem)
    assert importlib.import_module(module.stem).__file__ == str(module)
    with without(module.stem):
        importlib.import_module(module.stem)  # it was imported before
    assert module.stem in sys.modules


def test_what_an_import_makes_is_frozen_and_collection_goes_on_as_before(module: Path) -> None:
    module.write_text("made = [object()]")
    gc.unfreeze()
    try:
        with uncollected():
            pass
        assert gc.get_freeze_count() == 0, "nothing was imported"
        with uncollected():
            assert not gc.isenabled()
            made = importlib.import_module(module.stem).made
        assert gc.isenabled()
        assert not any(each is made for each in gc.get_objects())
    finally:
        gc.unfreeze()
