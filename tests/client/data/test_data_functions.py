"""A device's own data from a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.client.data.files import load_device_data
from fieldtune.profiles.common.errors import DataError


def test_a_function_gives_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_device_data.py").write_text(
        "import numpy as np\n"
        "x, y = np.ones((8, 3)), np.arange(8) % 2\n"
        "def pair(): return x, y\n"
        "def study(): return x, y, np.zeros(8)\n"
        "def four(): return x, y, x[:2], y[:2]\n"
        "def none(): return None\n"
        "def broken(): raise RuntimeError('secret sample 4711')\n"
        "def ends(): raise SystemExit('4711')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(load_device_data("my_device_data:pair").test_y) == 2
    assert len(load_device_data("my_device_data:study").test_y) == 2
    assert len(load_device_data("my_device_data:four").train_y) == 8
    for name, sentence in (
        ("none", "must return"),
        ("missing", "cannot be imported"),
        ("broken", "raised RuntimeError"),
        ("ends", "raised SystemExit"),
    ):
        with pytest.raises(DataError, match=sentence) as refused:
            load_device_data(f"my_device_data:{name}")
        assert "4711" not in str(refused.value)


def test_what_a_function_gives_is_described_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_device_data.py").write_text(
        "import numpy as np\ndef load(): return np.ones((8, 3)), np.array(['on', 'off'] * 4)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"list them in order in data\.toml"):
        load_device_data("named_device_data:load")
    (tmp_path / "data.toml").write_text('labels = ["off", "on", "broken"]\ntest_share = 0.5\n')
    data = load_device_data("named_device_data:load")
    assert (data.classes, len(data.test_y)) == (3, 4)
    assert sorted({*data.train_y, *data.test_y}) == [0, 1]


@pytest.mark.parametrize(
    ("module", "text", "sentence"),
    [
        (
            "unfinished",
            "x = 1\ndef data(:\n",
            r"cannot be imported: syntax error in .*unfinished\.py, line 2$",
        ),
        (
            "raises",
            "raise KeyError('sample 4711')",
            "cannot be imported: importing it raised KeyError; import",
        ),
        ("ends", "raise SystemExit('4711')", "cannot be imported: importing it raised SystemExit"),
        ("ragged", "data = lambda: ([[1, 2], [4711]], [0, 1])", "give all samples the same shape"),
        ("nothing", "data = lambda: ([[]], [], [[]], [])", "x has shape"),
        (
            "no_samples",
            "import numpy as np\nx, y = np.zeros((0, 2)), np.zeros(0)\ndata = lambda: (x, y, x, y)",
            "has no training samples: provide at least one",
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_named_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, sentence: str
) -> None:
    (tmp_path / f"device_data_{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=f"device_data_{module}:data.*{sentence}") as refused:
        load_device_data(f"device_data_{module}:data")
    assert "\n" not in str(refused.value)
    assert "4711" not in str(refused.value)
