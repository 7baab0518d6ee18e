"""The example of the documentation runs as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from commandline import ROOT, Command


@pytest.fixture
def example(tmp_path: Path) -> Path:
    text = (ROOT / "docs/your-own.md").read_text()
    files = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", text, re.M | re.S)
    assert [name for name, _ in files] == ["gestures.py", "gestures.toml"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    return tmp_path


def test_own_data_model_and_metric_are_tuned(example: Path, fieldtune: Command) -> None:
    done = fieldtune("tune", "gestures.toml", "--trials", "3", cwd=example)
    assert done.returncode == 0, done.stderr
    pareto = json.loads((example / "runs/gestures/pareto.json").read_text())
    assert pareto["metric"] == "gestures:worst_gesture"
    for point in pareto["front"]:
        # The metric of one's own is not the accuracy, and error is one minus it.
        assert point["measures"]["metric"] == pytest.approx(1 - point["measures"]["error"])
        assert point["measures"]["metric"] < point["measures"]["accuracy"]


@pytest.mark.parametrize(
    ("old", "new", "code", "sentence"),
    [
        ("return min(recalls)", "return 1 / 0, min(recalls)", 7, "ZeroDivisionError"),
        ("return x + 1.5", "raise OSError('no disk')\n    return x + 1.5", 2, "raised OSError"),
        ("import keras\n", "import kears\n", 6, "kears"),
        ("Dense(classes)", "Dense(classes + 1)", 6, "the data has 4 classes"),
        ("GlobalAveragePooling1D()(x)", "Lambda(keras.ops.erfinv)(x)", 6, "gestures:network"),
    ],
)
def test_a_mistake_in_it_is_a_sentence(
    old: str, new: str, code: int, sentence: str, example: Path, fieldtune: Command
) -> None:
    module = example / "gestures.py"
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))
    done = fieldtune("tune", "gestures.toml", "--trials", "2", cwd=example)
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr
    assert done.returncode == code
