"""What is recorded in compiled form is what the compiler makes today.

Where it is not, ``python tests/record_artefacts.py`` records it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fieldtune.client.service.doctor import check_step
from fieldtune.client.training.runtime import Session
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.compiler.service import CompileService
from support.artefacts import CHECK, CHECKED, MLP, RECORDED, read

pytestmark = pytest.mark.integration
MEASURED = {"train_arena_bytes": 0.1, "infer_arena_bytes": 0.1, "artefact_bytes": 0.1}
"""Relative differences from one machine or TensorFlow to the next that change no test."""
OF_THE_FILE = {"artefact_sha256", "versions", "checked_runtimes", *MEASURED}


@pytest.fixture(scope="module")
def service(artefact_cache: Path) -> Iterator[CompileService]:
    with CompileService(ArtefactCache(artefact_cache)) as service:
        yield service


def told(manifest: Manifest) -> dict[str, object]:
    """What a manifest says of the model, whatever wrote its file."""
    return manifest.model_dump(exclude=OF_THE_FILE)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_artefact_has_the_manifest_that_the_compiler_writes_today(
    name: str, service: CompileService
) -> None:
    fresh, recorded = service.submit(RECORDED[name]).result(), read(name)
    assert told(fresh.manifest) == told(recorded.manifest)
    for size, tolerance in MEASURED.items():
        today, then = getattr(fresh.manifest, size), getattr(recorded.manifest, size)
        assert today == pytest.approx(then, rel=tolerance), size


def test_the_recorded_artefact_that_is_trained_trains_as_todays(service: CompileService) -> None:
    fresh, recorded = service.submit(RECORDED[MLP]).result(), read(MLP)
    np.testing.assert_array_equal(fresh.initial_weights, recorded.initial_weights)
    steps = [check_step(Session(each.model)) for each in (fresh, recorded)]
    np.testing.assert_allclose(*steps, atol=1e-6)


def test_the_artefact_that_a_device_checks_itself_by_trains_as_todays(
    service: CompileService,
) -> None:
    fresh = check_step(Session(service.submit(CHECKED).result().model))
    shipped = check_step(Session((CHECK / "step.tflite").read_bytes()))
    np.testing.assert_allclose(fresh, shipped, atol=1e-6)
    np.testing.assert_allclose(np.load(CHECK / "expected.npy"), shipped, atol=1e-6)
