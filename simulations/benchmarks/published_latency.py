"""Predictions of the catalogue's profiles against latencies that were published for real boards.

usage: python simulations/benchmarks/published_latency.py --tables DIR [--models DIR] [--fit DIR]

Rebuilds the architectures of the tables (:mod:`published_models`; about 15 minutes the first time,
kept in ``--models``) and prints, for each source, how predicted latencies compare with measured
ones, misses included. Then the ranking of NAS-Bench-201 on a Pi 4B, and what threads gain.

``--fit`` makes the fitted figures of the catalogue anew: it writes a table for each device type and
the profile that ``fieldtune profiles fit`` makes of it, and prints the errors for families of
models that a fit had not seen. ``--update`` also writes them into the catalogue.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from cost_model import kendall_tau
from published_tables import Published, nasbench, nasbench_sample, published

import fieldtune.profiles.device.load as catalogue
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.common.toml import to_toml
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_reader import TfliteFile
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import DeviceProfile, value_fields
from fieldtune.profiles.measure.fit_table import COLUMNS, fit_table, read_table, stated_error

_CATALOGUE = Path(catalogue.__file__).parent / "catalogue"
_RANKED = 200
"""Cells of NAS-Bench-201 that are ranked."""


def _build(task: tuple[str, str, str]) -> str:
    from published_models import rebuilt

    name, precision, path = task
    content = rebuilt(name, precision)
    # A file without content says that the architecture is not known.
    Path(path).write_bytes(content or b"")
    return name


def build(models: Path, wanted: Iterable[tuple[str, str]]) -> None:
    """Build what is not in the folder yet, in a process that is replaced now and then."""
    tasks = [
        (name, precision, str(path))
        for name, precision in dict.fromkeys(wanted)
        if not (path := models / f"{name}.{precision}.tflite").exists()
    ]
    with get_context("spawn").Pool(1, maxtasksperchild=20) as pool:
        for number, name in enumerate(pool.imap(_build, tasks), 1):
            print(f"\rbuilt {number}/{len(tasks)}: {name:50}", end="", file=sys.stderr)


class Works:
    """Work of the models in a folder, each read once."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._files: dict[str, TfliteFile | None] = {}
        self._works: dict[tuple[str, str], Work] = {}

    def of(self, row: Published) -> Work | None:
        """The work of a row's model with its runtime; None where it could not be rebuilt."""
        if row.file not in self._files:
            path = self._models / f"{row.file}.tflite"
            content = path.read_bytes() if path.exists() else b""
            self._files[row.file] = TfliteFile(content) if content else None
        file = self._files[row.file]
        if file is None:
            return None
        key = row.file, row.runtime
        if key not in self._works:
            self._works[key] = file.work(file.inference_signature, row.runtime)  # type: ignore[arg-type]
        return self._works[key]


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


def rank(tables: Path, models: Path, works: Works) -> None:
    """Print how cells of NAS-Bench-201 are ranked on a Pi 4B."""
    cells = nasbench(tables)
    cells = cells[:: max(len(cells) // _RANKED, 1)][:_RANKED]
    build(models, [(f"nasbench201-{cell}", "fp32") for cell, _ in cells])
    truth = np.array([ms for _, ms in cells])
    profile = _profile("raspberry-pi-4b")
    for runtime in ("xnnpack", "plain"):
        found, flops = [], []
        for cell, ms in cells:
            row = Published(profile.name, "", f"nasbench201-{cell}", "fp32", 1, runtime, ms)
            work = works.of(row)
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


def fit_all(rows: Sequence[Published], models: Path, out: Path, *, update: bool) -> None:
    """Fit each device type's rates, write tables and profiles, print errors of held-out models."""
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Published]] = defaultdict(list)
    for row in rows:
        # NetsPresso's int8 files are not those that TensorFlow makes: some are slower than float32.
        # MLPerf's on the Orin do not agree with each other.
        left_out = row.source.startswith("netspresso") or row.profile == "jetson-agx-orin"
        if not (left_out and row.precision == "int8"):
            groups[row.profile].append(row)
    for name, own in sorted(groups.items()):
        table = out / f"{name}.csv"
        known = [row for row in own if (models / f"{row.file}.tflite").stat().st_size]
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((r.file, r.ms, r.threads, r.runtime, r.source) for r in known)
        sources = ", ".join(sorted({row.source for row in known}))
        how = f"fieldtune profiles fit, {len(known)} latencies of {sources}"
        try:
            found = fit_table(_profile(name), read_table(table, models), how)
        except UsageError as error:
            print(f"{name}: {error}")
            continue
        values = {field: value.model_dump() for field, value in found.values.items()}
        if update:
            _write(name, values)
        (out / f"{name}.toml").write_text(to_toml({"title": name, "extends": name} | values))
        for kind, errors in sorted(found.errors.items()):
            middle, most = stated_error(errors)
            print(
                f"{name:22} {kind:30} {len(errors):3} held out: predicted/measured "
                f"{np.exp(np.median(errors)):.2f}, median error {100 * middle:.0f} %, "
                f"90 % within {100 * most:.0f} %"
            )


def _profile(name: str) -> DeviceProfile:
    """From its file, which an update may have changed."""
    return load_profile(_CATALOGUE / f"{name}.toml")


def _write(name: str, values: dict[str, Any]) -> None:
    path = _CATALOGUE / f"{name}.toml"
    table = tomllib.loads(path.read_text()) | values
    order = ("title", "extends", *value_fields())
    path.write_text(to_toml({key: table[key] for key in order if key in table}))


def main() -> int:
    """Build, compare, fit."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    options.add_argument("--models", type=Path, default=Path.home() / ".cache/fieldtune/published")
    options.add_argument("--fit", type=Path, help="folder for tables and fitted profiles")
    options.add_argument("--update", action="store_true", help="the catalogue, too")
    given = options.parse_args()
    given.models.mkdir(parents=True, exist_ok=True)
    rows = published(given.tables)
    sample = nasbench_sample(given.tables)
    both = [*rows, *sample]
    build(given.models, [(r.model, r.file.rpartition(".")[2]) for r in both])
    if given.fit is not None:
        fit_all(both, given.models, given.fit, update=given.update)
    works = Works(given.models)
    compare(rows, works)
    speedups(rows, works)
    rank(given.tables, given.models, works)
    return 0


if __name__ == "__main__":
    sys.exit(main())
