"""A trial's checkpoint: bytes that say if they are damaged, and when the disk is waited for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.server.results.checkpoints import Checkpoint, DiskTime, pack, unpack

STATE: dict[str, Any] = {
    "weights": np.array([1.5, math.pi, -0.0, math.nan, math.inf], np.float32),
    "nested": [{"velocity": np.array([1 / 3])}, None, True, "é", math.inf, 0.1 + 0.2],
    "empty": np.zeros(0, np.float32),
    "number": np.array(7, np.int64),
    "columns": np.arange(6.0).reshape(2, 3).T,
    "rows": np.array([(1, [2.5, 3])], [("a", "i2"), ("b", "f8", (2,))]),
}


def test_arrays_and_numbers_come_back_with_the_same_bits() -> None:
    assert pack(unpack(pack(STATE))) == pack(STATE)
    found = unpack(pack(STATE))
    assert found["weights"].dtype == np.float32
    assert found["weights"].tobytes() == STATE["weights"].tobytes()
    assert found["nested"][0]["velocity"].tobytes() == STATE["nested"][0]["velocity"].tobytes()
    assert found["nested"][1:] == STATE["nested"][1:]
    for name in ("empty", "number", "columns", "rows"):
        np.testing.assert_array_equal(found[name], STATE[name], strict=True)


@given(st.data())
def test_whatever_happened_to_the_bytes_is_noticed(data: st.DataObject) -> None:
    whole = pack(STATE)
    at = data.draw(st.integers(0, len(whole) - 1))
    cut, flipped = whole[:at], bytearray(whole)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for damaged in (cut, bytes(flipped), whole + b"x", bytes(len(whole)), b""):
        with pytest.raises(ValueError, match="damaged"):
            unpack(damaged)


class Clock:
    """Each look at it takes 10 ms."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def test_the_latest_state_counts_and_the_disk_is_waited_for_a_twentieth_of_the_time(
    tmp_path: Path,
) -> None:
    file, clock = tmp_path / "checkpoints/trial-0001", Clock()
    unsynced = file.with_name("trial-0001.unsynced")
    checkpoint = Checkpoint(file, DiskTime(clock))
    assert checkpoint.load() is None
    checkpoint.save({"round": 1})
    for number in range(2, 12):
        checkpoint.save({"round": number})
        assert checkpoint.load() == {"round": number}
        assert unpack(file.read_bytes())["state"] == {"round": 1}
    clock.now += 1.0
    checkpoint.save({"round": 12})
    assert unpack(file.read_bytes())["state"] == {"round": 12}
    assert checkpoint.load() == {"round": 12}

    another = Checkpoint(file, DiskTime(clock))  # a later session
    assert another.load() == {"round": 12}
    another.save({"round": 13})
    another.save({"round": 14})
    assert Checkpoint(file, DiskTime()).load() == {"round": 14}
    unsynced.write_bytes(unsynced.read_bytes()[:-1])  # a power cut
    assert Checkpoint(file, DiskTime()).load() == {"round": 13}
    file.write_bytes(b"")
    assert Checkpoint(file, DiskTime()).load() == {"round": 11}
    file.with_name("trial-0001.unsynced2").write_bytes(b"")
    assert Checkpoint(file, DiskTime()).load() is None
    another.remove()
    assert not file.parent.exists()


def test_the_trials_of_a_run_share_the_time_for_the_disk(tmp_path: Path) -> None:
    clock = Clock()
    disk_time = DiskTime(clock)
    first, second = (Checkpoint(tmp_path / name, disk_time) for name in ("first", "second"))
    first.save({"round": 1})
    second.save({"round": 1})
    assert (tmp_path / "first").exists()
    assert not (tmp_path / "second").exists(), "the disk was waited for again at once"
    assert second.load() == {"round": 1}
    clock.now += 1.0
    second.save({"round": 2})
    assert unpack((tmp_path / "second").read_bytes())["state"] == {"round": 2}


def test_a_kill_while_a_state_is_written_leaves_the_state_before(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "trial-0001"
    checkpoint = Checkpoint(file, DiskTime(clock))
    before: dict[Path, bytes] = {}
    for number in range(1, 10):
        checkpoint.save({"round": number, "weights": np.zeros(20 - number)})
        after = {each: each.read_bytes() for each in tmp_path.iterdir()}
        assert len(after) == min(number, 3)
        (written,) = (each for each in after if after[each] != before.get(each))
        old, new = before.get(written, b""), after[written]
        for size in (0, 1, len(new) // 2, len(new) - 1):
            written.write_bytes(new[:size] + old[size:])
            found = Checkpoint(file, DiskTime(clock)).load()
            assert (found or {"round": 0})["round"] == number - 1
        written.write_bytes(new)
        before = after
        clock.now += 1.0 * (number == 5)  # the disk is waited for again


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "run/trial-0001", tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    file.parent.mkdir()
    for name in ("trial-0001.unsynced", "trial-0001.unsynced2"):
        file.with_name(name).symlink_to(elsewhere)
    checkpoint = Checkpoint(file, DiskTime(Clock()))
    for number in range(1, 6):
        checkpoint.save({"round": number})
    assert elsewhere.read_text() == "kept"
    assert checkpoint.load() == {"round": 5}


def test_a_state_that_an_earlier_version_has_stored_is_not_taken_for_one(tmp_path: Path) -> None:
    file = tmp_path / "trial-0001"
    file.write_bytes(pack({"saved": 3, "state": {"weights": {"__array__": 0}}}))
    with pytest.raises(ValueError, match="not a checkpoint of this version"):
        unpack(file.read_bytes())
    assert Checkpoint(file, DiskTime()).load() is None


def test_what_cannot_be_stored_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a JSON value, nor an array of numbers"):
        Checkpoint(tmp_path / "trial-0001", DiskTime()).save({"a": object()})
