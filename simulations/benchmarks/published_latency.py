"""Predictions of the catalogue's profiles against latencies that were published for real boards.

usage: python simulations/benchmarks/published_latency.py --tables DIR [--models DIR] [--fit DIR]
       python simulations/benchmarks/published_latency.py --accuracy

Rebuilds the architectures of the tables (:mod:`published_models`; about 15 minutes the first time,
kept in ``--models``) and prints, for each source, how predicted latencies compare with measured
ones, misses included. Then the ranking of NAS-Bench-201 on a Pi 4B, and what threads gain.

``--fit`` makes the fitted figures of the catalogue anew: it writes a table for each device type and
the profile that ``fieldtune profiles fit`` makes of it, and prints the errors for families of
models that a fit had not seen. ``--update`` also writes them into the catalogue. ``--accuracy``
prints the table of ``docs/device-profiles.md`` from the catalogue.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cost_model import Vector, kendall_tau
from published_tables import (
    CORE_OF,
    CORES,
    SIBLINGS,
    Published,
    nasbench,
    nasbench_sample,
    published,
    twins,
)
from published_works import Works, build

import fieldtune.profiles.device.load as catalogue
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.common.toml import to_toml
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_work import NO_WORK, Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import RATES, DeviceProfile, HeldOut, value_fields
from fieldtune.profiles.measure.fit_rates import robust
from fieldtune.profiles.measure.fit_table import fit_table, with_rates
from fieldtune.profiles.measure.latency_table import COLUMNS, read_table
from fieldtune.profiles.tables import accuracy

_CATALOGUE = Path(catalogue.__file__).parent / "catalogue"
_RANKED = 200
"""Cells of NAS-Bench-201 that are ranked."""
_GUESSED = 0.4
"""Half of the interval of a rate that a fit starts from, as a logarithm."""


def compare(rows: Sequence[Published], works: Works) -> None:
    """Print a line for each device, source, runtime, precision and number of threads."""
    groups: dict[str, list[tuple[Published, Estimate]]] = defaultdict(list)
    missing = 0
    for row in rows:
        work = works.of(row)
        if work is None:
            missing += 1
            continue
        found = call_ms(_profile(row.profile), work, threads=row.threads)
        line = f"{row.profile} {row.source} {row.runtime} {row.precision} {row.threads}"
        groups[line].append((row, found))
    print(f"{len(rows)} latencies, {missing} of models that are not rebuilt")
    head = ("models", "median", "within 15 %", "25 %", "holds", "width", "worst")
    print(f"{'device, source, runtime, precision, threads':76}" + "".join(f"{h:>12}" for h in head))
    for line, pairs in sorted(groups.items()):
        ratio = np.array([found.value / row.ms for row, found in pairs])
        off = np.abs(ratio - 1)
        holds = np.mean([found.low <= row.ms <= found.high for row, found in pairs])
        width = np.median([found.high / found.low for _, found in pairs])
        worst = pairs[int(np.argmax(np.abs(np.log(ratio))))][0]
        print(
            f"{line:76}{len(pairs):12}{np.median(ratio):12.2f}"
            f"{100 * np.mean(off <= 0.15):10.0f} %{100 * np.mean(off <= 0.25):10.0f} %"
            f"{100 * holds:10.0f} %{width:12.2f}  {worst.model} {ratio[np.argmax(off)]:.2f}"
        )


def speedups(rows: Sequence[Published], works: Works) -> None:
    """Print what four threads gain over one, as published and as predicted."""
    by_model: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    predicted: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        work = works.of(row)
        if row.precision == "fp32" and row.runtime == "xnnpack" and work is not None:
            key = row.profile, row.source, row.model
            by_model[key][row.threads] = row.ms
            found = call_ms(_profile(row.profile), work, threads=row.threads)
            predicted[key][row.threads] = found.value
    gains: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, ms in by_model.items():
        if {1, 4} <= set(ms):
            gains[key[0]].append((ms[1] / ms[4], predicted[key][1] / predicted[key][4]))
    for profile, pairs in sorted(gains.items()):
        true, stated = np.mean(pairs, axis=0)
        print(f"four threads on {profile}: {true:.2f} times one published, {stated:.2f} predicted")


def _cell(profile: DeviceProfile, cell: str, runtime: str, ms: float) -> Published:
    return Published(profile.name, "", f"nasbench201-{cell}", "fp32", 1, runtime, ms)


def rank(tables: Path, models: Path, works: Works) -> None:
    """Print how cells of NAS-Bench-201 are ranked on a Pi 4B."""
    cells = nasbench(tables)
    cells = cells[:: max(len(cells) // _RANKED, 1)][:_RANKED]
    build(models, [(f"nasbench201-{cell}", "fp32") for cell, _ in cells])
    truth = np.array([ms for _, ms in cells])
    first, second = np.array(twins(tables)).T
    print(
        f"NAS-Bench-201: two measurements of {len(first)} networks that are in the table twice "
        f"rank them with Kendall tau {kendall_tau(first, second):.3f}; they differ by "
        f"{100 * np.median(np.abs(first / second - 1)):.1f} % in the median, one in ten by "
        f"{100 * np.quantile(np.abs(first / second - 1), 0.9):.0f} %"
    )
    profile = _profile("raspberry-pi-4b")
    plain = [works.of(_cell(profile, cell, "plain", ms)) for cell, ms in cells]
    linear = _linear([work for work in plain if work is not None], truth)
    print(
        "NAS-Bench-201: rates of their own for the ops of these cells, fitted to others of them, "
        f"rank them with Kendall tau {kendall_tau(linear, truth):.3f}, mean error "
        f"{100 * np.abs(linear / truth - 1).mean():.1f} %"
    )
    for runtime in ("xnnpack", "plain"):
        found, flops = [], []
        for cell, ms in cells:
            work = works.of(_cell(profile, cell, runtime, ms))
            assert work is not None
            found.append(call_ms(profile, work).value)
            flops.append(work.flops)
        ratio = np.array(found) / truth
        error, scaled = np.abs(ratio - 1), np.abs(ratio / np.median(ratio) - 1)
        print(
            f"NAS-Bench-201, {len(cells)} cells, Pi 4B, one thread, {runtime}: Kendall tau "
            f"{kendall_tau(np.array(found), truth):.3f} (by FLOPs "
            f"{kendall_tau(np.array(flops), truth):.3f}), predicted/measured "
            f"{np.median(ratio):.2f}, mean error {100 * error.mean():.1f} % "
            f"({100 * scaled.mean():.1f} % after one factor)"
        )


def _linear(works: Sequence[Work], ms: Vector) -> Vector:
    """Latencies by rates that are fitted to other cells, of an eighth of the cells at a time."""
    kernels = ("conv.conv_2d.plain", "conv.conv_2d.pointwise.plain", "elementwise.binary.plain",
               "elementwise.unary.plain", "pool.average_pool_2d.plain")  # fmt: skip
    found = [[work.classes.get(kernel, NO_WORK) for kernel in kernels] for work in works]
    x = np.array([[1.0, *(op.flops for op in ops), sum(op.count for op in ops)] for ops in found])
    predicted = np.zeros(len(ms))
    for fold in range(8):
        left = np.arange(len(ms)) % 8 == fold
        rates, _ = robust(x[~left], ms[~left], ms[~left])
        predicted[left] = x[left] @ rates
    return predicted


def started(name: str) -> DeviceProfile:
    """The profile with rates that are guessed from its cores, clock and rate of memcpy."""
    profile = _profile(name)
    per_cycle, int8 = CORES[CORE_OF[name]]
    assert profile.clock_mhz is not None
    one = per_cycle * profile.clock_mhz.value / 1e3
    several = profile.cores.value**0.6
    guess = (one, one * several, int8 * one, int8 * one * several, 0.65,
             1.5 * profile.memory_copy_mb_s.value, 70.0 / one)  # fmt: skip
    known = SIBLINGS.get(name, ())
    rates = {rate: value for rate, value in zip(RATES, guess, strict=True) if rate not in known}
    return with_rates(profile, rates, dict.fromkeys(rates, _GUESSED))


def fit_all(rows: Sequence[Published], models: Path, out: Path, *, update: bool) -> None:
    """Fit each device type's rates, write tables and profiles, print errors of held-out models."""
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Published]] = defaultdict(list)
    for row in rows:
        # NetsPresso's int8 files are not those that TensorFlow makes: some are slower than float32.
        if not (row.source.startswith("netspresso") and row.precision == "int8"):
            groups[row.profile].append(row)
    for name, own in sorted(groups.items()):
        if name not in CORE_OF:
            continue
        table = out / f"{name}.csv"
        known = [row for row in own if (models / f"{row.file}.tflite").stat().st_size]
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((r.file, r.ms, r.threads, r.runtime, r.source) for r in known)
        sources = ", ".join(sorted({row.source for row in known}))
        how = f"fieldtune profiles fit, {len(known)} latencies of {sources}"
        try:
            found = fit_table(
                started(name), read_table(table, models).rows, how, keep=SIBLINGS.get(name, ())
            )
        except UsageError as error:
            print(f"{name}: {error}")
            continue
        values: dict[str, Any] = {
            field: value.model_dump() for field, value in found.values.items()
        }
        values["held_out"] = {kind: each.model_dump() for kind, each in found.held_out.items()}
        if update:
            _write(name, values)
        (out / f"{name}.toml").write_text(to_toml({"title": name, "extends": name} | values))
        print_held_out(name, found.held_out)


def print_held_out(name: str, held_out: Mapping[str, HeldOut]) -> None:
    """Print how far predictions were off, and how often intervals held, for models left out."""
    for kind, found in sorted(held_out.items()):
        print(
            f"{name:22} {kind:26} {found.rows:3} left out by {found.left_out:8}: "
            f"predicted/measured {found.ratio:.2f}, median error {100 * found.median:.0f} %, 90 % "
            f"within {100 * found.most:.0f} %, interval holds {100 * found.holds:.0f} %, "
            f"width {found.width:.2f}"
        )


def _profile(name: str) -> DeviceProfile:
    """From its file, which an update may have changed."""
    return load_profile(_CATALOGUE / f"{name}.toml")


def _write(name: str, values: dict[str, Any]) -> None:
    path = _CATALOGUE / f"{name}.toml"
    table = tomllib.loads(path.read_text()) | values
    order = ("title", "extends", *value_fields(), "held_out")
    path.write_text(to_toml({key: table[key] for key in order if key in table}))


def main() -> int:
    """Build, compare, fit."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tables", type=Path, help="folder of the tables")
    options.add_argument("--models", type=Path, default=Path.home() / ".cache/fieldtune/published")
    options.add_argument("--fit", type=Path, help="folder for tables and fitted profiles")
    options.add_argument("--update", action="store_true", help="the catalogue, too")
    options.add_argument("--accuracy", action="store_true", help="print the table of the docs")
    given = options.parse_args()
    if given.accuracy:
        print("\n".join(accuracy()))
        return 0
    if given.tables is None:
        options.error("--tables is missing")
    given.models.mkdir(parents=True, exist_ok=True)
    rows = published(given.tables)
    sample = nasbench_sample(given.tables)
    both = [*rows, *sample]
    build(given.models, [(r.model, r.file.rpartition(".")[2]) for r in both])
    if given.fit is not None:
        fit_all(both, given.models, given.fit, update=given.update)
    works = Works(given.models)
    compare(rows, works)
    print("\nOf models that the fits had not seen:")
    for name in sorted({row.profile for row in rows}):
        print_held_out(name, _profile(name).held_out)
    print("\n".join(line for line in accuracy() if "all of them" in line))
    speedups(rows, works)
    rank(given.tables, given.models, works)
    return 0


if __name__ == "__main__":
    sys.exit(main())
