"""Latencies that were published for real boards, as rows for device profiles.

The tables and where they are from: ``README.md`` in the folder that ``--tables`` names. Left out
are boards without a profile, other runtimes (Arm NN, ncnn), 32-bit systems, and a run of MLPerf
whose board was throttled or swapping.
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
_NASBENCH_SAMPLE = 40
"""Cells of NAS-Bench-201 that take part in a fit, beside tables of 4 to 40 rows."""


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
            # "4", "1 (inferred: ...)", "not said (4 fits)"
            threads = int(line["threads"].split()[0].replace("not", "4"))
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


def nasbench_sample(tables: Path) -> list[Published]:
    """A few of them, evenly spaced, as rows: one thread, and no XNNPACK by their speed."""
    cells = nasbench(tables)
    chosen = cells[:: max(len(cells) // _NASBENCH_SAMPLE, 1)][:_NASBENCH_SAMPLE]
    return [
        Published("raspberry-pi-4b", "hw-nas-bench", f"nasbench201-{cell}", "fp32", 1, "plain", ms)
        for cell, ms in chosen
    ]
