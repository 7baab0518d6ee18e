"""The older runtime, in an environment of its own, computes what the installed one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from strategies import drawn
from two_runtimes import disagreements, other_environment

from fieldtune.server.compiler.manifest import ModelSpec
from fieldtune.server.compiler.service import CompileService

pytestmark = pytest.mark.system

SPECS = {
    "mlp": ModelSpec("mlp", {}, (8, 8, 1), 10),
    "cnn": ModelSpec("cnn", {}, (8, 8, 1), 10),
    "ds_cnn": ModelSpec("ds_cnn", {}, (16, 16, 1), 10),
    "gru": ModelSpec("gru", {}, (8, 8), 10),
    "transformer": ModelSpec("transformer", {}, (8, 8), 10),
    **{f"drawn {number}": drawn(number) for number in (1, 4, 9, 23, 31, 37, 245)},
}


def test_both_runtimes_agree_on_losses_gradients_states_weights_and_logits(
    compiler: CompileService, tmp_path: Path
) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("NOT CHECKED: tflite-runtime 2.14 has wheels for Python 3.11 at most")
    artefacts = {name: compiler.submit(spec).result() for name, spec in SPECS.items()}
    other_python = other_environment(tmp_path / "tflite-runtime")
    assert disagreements(artefacts, other_python, tmp_path) == {}
