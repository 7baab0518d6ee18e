"""A board is detected by its model name and memory size."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.profiles.device.load import profile_names
from fieldtune.profiles.host.detect import _BOARDS, detect_profile
from fieldtune.profiles.host.probe import probe


@pytest.mark.parametrize(
    ("model", "memory_kb", "profile"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", 426_000, "raspberry-pi-zero-2w"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 930_000, "raspberry-pi-3b-plus"),
        ("Raspberry Pi 4 Model B Rev 1.4", 930_000, "raspberry-pi-4b-1gb"),
        ("Raspberry Pi 4 Model B Rev 1.4", 1_890_000, "raspberry-pi-4b"),
        ("Raspberry Pi 4 Model B Rev 1.5", 7_990_000, "raspberry-pi-4b-8gb"),
        ("Raspberry Pi 5 Model B Rev 1.0", 4_140_000, "raspberry-pi-5"),
        ("Raspberry Pi 5 Model B Rev 1.1", 16_500_000, "raspberry-pi-5-16gb"),
        ("Raspberry Pi 5 Model B Rev 2.0", 32_000_000, "raspberry-pi-5-16gb"),
        ("NVIDIA Jetson Nano Developer Kit", 4_059_000, "jetson-nano"),
        ("Raspberry Pi 400 Rev 1.0", 3_900_000, None),
        ("Something else", 1_000_000, None),
    ],
)
def test_the_profile_is_the_one_with_the_least_memory_that_the_board_can_have(
    tmp_path: Path, model: str, memory_kb: int, profile: str | None
) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text(model + "\0")
    (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {memory_kb} kB\n")
    assert detect_profile(probe(tmp_path)) == profile


def test_a_machine_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    assert detect_profile(probe(tmp_path)) is None
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    assert detect_profile(probe(tmp_path)) is None  # which of three memory sizes?


def test_every_profile_that_may_be_detected_is_in_the_catalogue() -> None:
    named = {name for profiles in _BOARDS.values() for _, name in profiles}
    assert named <= set(profile_names())
