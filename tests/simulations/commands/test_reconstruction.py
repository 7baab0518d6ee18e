"""A model that gives its input again is tuned by its loss, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commandline import Command

pytestmark = pytest.mark.integration

STUDY = """
[study]
name = "odd-digits"
trials = 2
rounds = 2
objectives = ["loss", "inference_ms"]
[task]
data = "digits"
model = "autoencoder"
loss = "mse"
variants = ["fp32", "dynamic"]
[fleet]
clients = 6
devices = { "raspberry-pi-4b" = 1.0 }
[space.model]
width = { choices = [8] }
depth = { choices = [1] }
[space.client]
learning_rate = { low = 0.1, high = 1.0, log = true }
"""


def test_an_autoencoder_is_tuned_by_its_loss(fieldtune: Command, tmp_path: Path) -> None:
    (tmp_path / "odd-digits.toml").write_text(STUDY)
    done = fieldtune("tune", "odd-digits.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Loss" in done.stdout
    pareto = json.loads((tmp_path / "runs/odd-digits/pareto.json").read_text())
    for point in pareto["front"]:
        loss = point["measures"]["loss"]
        assert set(point["measures"]) == {"loss", "time_h"}
        # The same weights, converted: the mean squared error over the same samples.
        assert point["variants"]["fp32"]["measures"]["loss"] == pytest.approx(loss, rel=1e-5)
        assert point["variants"]["dynamic"]["measures"]["loss"] == pytest.approx(loss, rel=0.05)
