"""What keeps unit tests quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from support.artefacts import MLP, RECORDED


def test_a_unit_test_that_would_compile_fails_and_is_told_what_to_do(tmp_path: Path) -> None:
    with CompileService(ArtefactCache(tmp_path)) as service:
        compiled = service.submit(RECORDED[MLP])
        with pytest.raises(AssertionError, match="a unit test may not compile: use an artefact"):
            compiled.result()


def test_what_is_recorded_need_not_be_compiled(recorded_artefacts: Path) -> None:
    with CompileService(ArtefactCache(recorded_artefacts)) as service:
        for spec in RECORDED.values():
            assert service.submit(spec).result().manifest.input_shape == spec.input_shape
