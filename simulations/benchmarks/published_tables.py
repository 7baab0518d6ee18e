"""Latencies that were published for real boards, as rows for device profiles.

The tables and where they are from: ``README.md`` in the folder that ``--tables`` names. Left out
are boards without a profile, other runtimes (Arm NN, ncnn), 32-bit systems, a run of MLPerf whose
board was throttled or swapping, and a Pi 3B+ that was slowed down.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PROFILES = {
    "raspberry-pi-zero-2w": "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus": "raspberry-pi-3b-plus",
    "raspberry-pi-4b": "raspberry-pi-4b",
    "raspberry-pi-5": "raspberry-pi-5",
    "x86-mini-pc": "x86-mini-pc",
    "odroid-n2plus": "odroid-n2plus",
    "firefly-rk3588s": "rk3588",
    "jetson-nano": "jetson-nano",
    "jetson-agx-orin": "jetson-agx-orin",
    "coral-dev-board": "coral-dev-board",
    "pixel-1": "pixel-1",
    "pixel-2": "pixel-2",
    "pixel-3": "pixel-3",
    "pixel-3a": "pixel-3a",
    "pixel-4": "pixel-4",
}
"""Device in the tables -> profile of the catalogue."""
CORES = {
    "cortex-a53": (4.0, 2.0),
    "cortex-a72": (5.0, 2.5),
    "cortex-a73": (7.0, 2.5),
    "cortex-a75": (9.0, 3.0),
    "cortex-a76": (15.0, 3.6),
    "cortex-a78": (16.0, 3.8),
    "kryo": (8.0, 2.0),
    "gracemont": (12.0, 2.5),
}
"""Core -> float32 operations of a dense product in a clock cycle, and int8 relative to it, as a
guess of a factor of 1.5: where a fit starts, so that nothing of an earlier fit is in it."""
CORE_OF = {
    "raspberry-pi-zero-2w": "cortex-a53",
    "raspberry-pi-3b-plus": "cortex-a53",
    "raspberry-pi-4b": "cortex-a72",
    "raspberry-pi-5": "cortex-a76",
    "x86-mini-pc": "gracemont",
    "odroid-n2plus": "cortex-a73",
    "jetson-agx-orin": "cortex-a78",
    "pixel-1": "kryo",
    "pixel-2": "cortex-a73",
    "pixel-3": "cortex-a75",
    "pixel-3a": "cortex-a75",
    "pixel-4": "cortex-a76",
}
"""Profile -> its fastest cores."""
SIBLINGS = {"raspberry-pi-zero-2w": ("float32_one_thread_gflop_s",)}
"""Profile -> rates that it has from a board with the same cores, and which no table of its own
tells: nobody published what one thread of a Zero 2 W does."""
_NASBENCH_SAMPLE = 40
"""Cells of NAS-Bench-201 that take part in a fit, beside tables of 4 to 40 rows."""


_SLOWED = {("raspberry-pi-3b-plus", "netspresso-trainer")}
"""Boards that were not at their usual speed. NetsPresso's Pi 3B+ is slower than its Zero 2 W in
five of six float32 models, with the same cores at 1.4 times the clock: the firmware must have
slowed it down (under-voltage, or heat). XNNPACK's and Tsukamoto's tables of a 3B+ agree with each
other, and are up to 1.7 times as fast."""


@dataclass(frozen=True)
class Published:
    """A latency that somebody published; of several by one source, the median."""

    profile: str
    source: str
    model: str
    precision: str  # fp32, fp16, int8
    threads: int
    runtime: str  # xnnpack, plain
    ms: float

    @property
    def file(self) -> str:
        """The model's file, without suffix. Weights in half precision are the same graph."""
        precision = "int8" if self.precision == "int8" else "fp32"
        return f"{self.model}.{precision}"


def published(tables: Path) -> list[Published]:
    """All rows of the latency tables and of MLPerf."""
    found: dict[Published, list[float]] = defaultdict(list)
    for name, column in (("measurements.csv", "ms"), ("mlperf_arm.csv", "p50_ms")):
        for line in _lines(tables / name):
            profile = PROFILES.get(line["device"])
            runtime = _runtime(line["source"], line["runtime"])
            if profile is None or runtime is None or not line[column]:
                continue
            if (profile, line["source"]) in _SLOWED:
                continue
            # "4", "1 (inferred: ...)", "not said (4 fits)"
            threads = int(line["threads"].split()[0].replace("not", "4"))
            if _outside_xnnpack(profile, line):
                threads, runtime = 12, "plain"
            source = line["source"].split("-v")[0]
            key = Published(
                profile, source, line["model"], line["precision"], threads, runtime, 0.0
            )
            found[key].append(float(line[column]))
    return [
        Published(**{**key.__dict__, "ms": median(values)})
        for key, values in found.items()
    ]  # fmt: skip


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def _outside_xnnpack(profile: str, line: dict[str, str]) -> bool:
    """Whether a run by XNNPACK with one thread was none.

    MLPerf's quantised MobileNets on the AGX Orin do 457 GOP/s, three times what a core at 2.2 GHz
    can do (two vectors of 32 operations a cycle). They are files of unsigned integers, which
    XNNPACK's delegate leaves to the runtime's own kernels, and those use all cores. EfficientNet
    (signed integers) is within a core's reach.
    """
    quantised = line["precision"] == "int8" and line["model"].startswith("mobilenet")
    return profile == "jetson-agx-orin" and "xnnpack" in line["runtime"] and quantised


def _runtime(source: str, runtime: str) -> str | None:
    if source.startswith(("xnnpack", "nobuotsukamoto", "netspresso")) or "xnnpack" in runtime:
        return "xnnpack"
    # Versions before ruy, and runs of which another runtime took part, are left out.
    if "ruy" in runtime or "TFLite ~20" in runtime or "TFLite 2.2" in runtime:
        return "plain"
    return None


def nasbench(tables: Path) -> list[tuple[str, float]]:
    """Cell and latency (ms, Pi 4B) of each architecture of NAS-Bench-201 whose graph is known."""
    return [
        (line["cell"], float(line["raspi4_ms"]))
        for line in _lines(tables / "nasbench201_cifar10.csv")
        if line["clean"] == "1"
    ]


def twins(tables: Path) -> list[tuple[float, float]]:
    """Both latencies (ms, Pi 4B) of each network of NAS-Bench-201 that is in the table twice.

    Where nothing leads from node 1 to node 2, exchanging them gives the same network.
    """
    cells = dict(nasbench(tables))
    pairs = []
    for cell, ms in cells.items():
        twin = cell[1] + cell[0] + cell[2] + cell[3] + cell[5] + cell[4]
        if cell[2] == "n" and cell < twin and twin in cells:
            pairs.append((ms, cells[twin]))
    return pairs


def nasbench_sample(tables: Path) -> list[Published]:
    """A few of them, evenly spaced, as rows: one thread, and no XNNPACK by their speed."""
    cells = nasbench(tables)
    chosen = cells[:: max(len(cells) // _NASBENCH_SAMPLE, 1)][:_NASBENCH_SAMPLE]
    return [
        Published("raspberry-pi-4b", "hw-nas-bench", f"nasbench201-{cell}", "fp32", 1, "plain", ms)
        for cell, ms in chosen
    ]
