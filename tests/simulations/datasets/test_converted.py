"""Data sets are converted once, and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune.simulations.datasets import Dataset
from fieldtune.simulations.datasets.cache import load_or_convert


def made(value: float = 1.0) -> Dataset:
    x = np.full((4, 2), value, np.float32)
    return Dataset(x, np.arange(4, dtype=np.int32), np.array(list("aabb")), np.arange(4))


def refuse() -> Dataset:
    raise AssertionError("converted again")


def same(a: Dataset, b: Dataset) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("x", "y", "owner", "group")
    )


def test_a_data_set_is_converted_once_for_each_content_and_version(
    cache: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    first = load_or_convert("toy", 1, [source], made)
    assert same(first, made())
    assert isinstance(first.x, np.memmap)
    assert same(load_or_convert("toy", 1, [source], refuse), made())
    assert load_or_convert("toy", 2, [source], lambda: made(2.0)).x[0, 0] == 2
    source.write_bytes(b"two")
    assert load_or_convert("toy", 1, [source], lambda: made(3.0)).x[0, 0] == 3
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("name", ["x.npy", "y.npy", "owner.npy"])
@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_entry_is_made_anew(
    name: str, content: bytes | None, cache: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    load_or_convert("toy", 1, [source], made)
    (file,) = cache.glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:-4] if content is None else content)
    assert same(load_or_convert("toy", 1, [source], made), made())
    assert same(load_or_convert("toy", 1, [source], refuse), made())


def test_a_cache_that_cannot_be_written_costs_no_study(cache: Path, tmp_path: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    source = tmp_path / "source"
    source.write_bytes(b"one")
    assert same(load_or_convert("toy", 1, [source], made), made())


def test_processes_that_convert_at_once_leave_one_whole_entry(cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    code = (
        "import sys, numpy as np, pathlib\n"
        "from fieldtune.simulations.datasets.cache import load_or_convert\n"
        "from fieldtune.simulations.datasets.dataset import Dataset\n"
        "make = lambda: Dataset(np.ones((200000, 5), np.float32), np.arange(200000), None)\n"
        "for version in range(8):\n"
        "    data = load_or_convert('toy', version, [pathlib.Path(sys.argv[1])], make)\n"
        "    print(int(data.x.sum()))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in running:
        output, wrong = process.communicate(timeout=120)
        assert output.split() == [b"1000000"] * 8, wrong.decode()
    assert len(list(cache.iterdir())) == 8
