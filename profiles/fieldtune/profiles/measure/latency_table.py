"""A table of measured latencies, as rows to which a profile can be fitted."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from fieldtune.profiles.common.errors import UsageError, did_you_mean
from fieldtune.profiles.common.text import printable
from fieldtune.profiles.costmodel.latency import latency_kind
from fieldtune.profiles.costmodel.tflite_reader import TfliteFile
from fieldtune.profiles.costmodel.tflite_work import Work

COLUMNS = ("model", "ms", "threads", "runtime", "source")
"""Of a table; the first two are required."""
_RUNTIMES = ("xnnpack", "plain")
_MOST_TEXT = 200


@dataclass(frozen=True)
class Row:
    """A measured latency of a model."""

    model: str
    ms: float
    threads: int
    runtime: str
    source: str
    work: Work

    @property
    def family(self) -> str:
        """Models that are left out together: ``mobilenet-v2`` of ``mobilenet-v2-1.0-224``."""
        found = re.match(r"[A-Za-z]+(?:[-_]?v\d+|-[A-Za-z]{2,})?", self.model)
        return found.group() if found else self.model

    @property
    def kind(self) -> str:
        """Rows whose errors are alike."""
        return latency_kind(self.work, self.threads, self.runtime)


class LatencyTable(NamedTuple):
    """What a table holds."""

    rows: list[Row]
    absent: list[str]
    """Models whose rows are left out, since the folder does not have them."""


def read_table(path: Path, models: Path) -> LatencyTable:
    """The rows of a table whose models are in the folder.

    Args:
        path: CSV with the columns ``model`` (a file of the folder, with or without ``.tflite``),
            ``ms``, and optionally ``threads`` (1), ``runtime`` (``xnnpack``) and ``source``.
        models: folder of ``.tflite`` files.

    Raises:
        UsageError: unknown columns, no usable row, or a latency that is not above 0.
    """
    try:
        # Spreadsheets start a table with a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            header = [name or "" for name in table.fieldnames or ()]
            lines = list(table)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a CSV table: {error}") from None
    for name in header:
        if name not in COLUMNS:
            raise UsageError(
                f"{path}: column {name!r} is unknown{did_you_mean(name, COLUMNS)}; the columns are "
                f"{', '.join(COLUMNS)}"
            )
        if header.count(name) > 1:
            raise UsageError(f"{path}: column {name!r} is there twice")
    for name in COLUMNS[:2]:
        if name not in header:
            raise UsageError(f"{path}: column {name!r} is missing")
    if not models.is_dir():
        raise UsageError(f"--models {models}: is not a folder; give that of the .tflite files")
    works: dict[tuple[str, str], Work] = {}
    rows, absent = [], set[str]()
    for number, line in enumerate(lines, 2):
        row = _row(f"{path}, line {number}", line, models, works)
        if row is None:
            absent.add(printable(line["model"] or "", _MOST_TEXT))
        else:
            rows.append(row)
    if not lines:
        raise UsageError(f"{path}: no usable row; there is none below its columns")
    if not rows:
        named = ", ".join(sorted(absent)[:3]) + ", ..." * (len(absent) > 3)
        raise UsageError(
            f"{path}: no usable row; {models} has none of its models ({printable(named, 200)})"
        )
    return LatencyTable(rows, sorted(absent))


def _row(
    where: str, line: Mapping[str, Any], models: Path, works: dict[tuple[str, str], Work]
) -> Row | None:
    if None in line:  # DictReader's key of what is beyond the columns, such as ",5" of "130,5"
        raise UsageError(f"{where}: has more cells than there are columns; write 0.5, not 0,5")
    ms, threads = _number(where, line, "ms"), int(_number(where, line, "threads", "1"))
    runtime = line.get("runtime") or "xnnpack"
    if runtime not in _RUNTIMES:
        raise UsageError(f"{where}: runtime {runtime!r} is unknown: {' or '.join(_RUNTIMES)}")
    name = (line["model"] or "").removesuffix(".tflite")
    if (name, runtime) not in works:
        file = models / f"{name}.tflite"
        # A name is a file of the folder, not a path.
        if not name or file.parent != models or not os.path.isfile(file):  # noqa: PTH113 - of any
            return None
        try:
            model = TfliteFile(file.read_bytes())
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        works[name, runtime] = model.work(model.inference_signature, runtime)  # type: ignore[arg-type]
    source = printable(line.get("source") or "", _MOST_TEXT)
    return Row(printable(name), ms, threads, runtime, source, works[name, runtime])


def _number(where: str, line: Mapping[str, Any], key: str, default: str = "") -> float:
    text = line.get(key) or default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number <= 0 or (key == "threads" and number % 1):
        kind = "whole number" if key == "threads" else "number"
        raise UsageError(f"{where}: {key} = {text!r} must be a {kind} above 0")
    return number
