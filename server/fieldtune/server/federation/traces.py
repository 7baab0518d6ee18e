"""Files that say when clients were there.

A ``.csv`` has the columns ``client`` (any text), ``start_s`` and ``end_s``, one line for each time
in which a client was there; it repeats after the largest ``end_s`` of the file. A ``.json`` is an
availability trace of FedScale (Lai et al. 2022): client -> ``active`` and ``inactive``, the seconds
at which it comes and goes, and ``finish_time``, after which it repeats. FedScale distributes these
as pickles, which are not read here, since a pickle runs code: write them out with ``json.dump``.
Times of less than a microsecond do not count.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.files import readable
from fieldtune.profiles.common.text import printable

Trace = tuple[list[float], float]
"""Ascending times at which a client comes and goes, in turn; and after how long they repeat."""

_LEAST_S = 1e-6
"""Shorter presences are no times in which a client could be asked."""
_COLUMNS = {"client", "start_s", "end_s"}


@cache
def read_traces(file: Path) -> list[Trace]:
    """The traces of a file, in the order of the clients in it.

    Raises:
        StudyError: it cannot be read, or is not such a file.
    """
    try:
        text = readable(file).read_text(encoding="utf-8-sig")
        found = _fedscale(text) if file.suffix == ".json" else _csv(text)
    except FileNotFoundError:
        raise StudyError(
            f"fleet.availability: there is no file {file}: give its path from the study file's "
            "folder"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise StudyError(f"fleet.availability: {file} cannot be read: {unreadable}") from None
    except RecursionError:
        raise StudyError(f"fleet.availability: {file} nests lists too deeply") from None
    except ValueError as wrong:
        said = printable(str(wrong), 300)
        raise StudyError(f"fleet.availability: {file} {said}") from None
    if not found:
        raise StudyError(f"fleet.availability: {file} has no client")
    return found


def _csv(text: str) -> list[Trace]:
    rows = csv.DictReader(text.splitlines())
    if not set(rows.fieldnames or ()) >= _COLUMNS:
        raise ValueError("is not a trace: its first line must be client,start_s,end_s")
    there: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        there[str(row["client"])].append(_times(row["start_s"], row["end_s"], rows.line_num))
    period_s = max((end for times in there.values() for _, end in times), default=0.0)
    return [(_merged(times), period_s) for times in there.values()]


def _times(start: object, end: object, line: int) -> tuple[float, float]:
    try:
        start_s, end_s = float(str(start)), float(str(end))
    except ValueError:
        raise ValueError(f"has no times in line {line}: {start!r}, {end!r}") from None
    if not (0 <= start_s < end_s < math.inf):
        raise ValueError(
            f"has the times {start_s:g} to {end_s:g} in line {line}: they must be finite and "
            "ascend from 0"
        )
    return start_s, end_s


def _fedscale(text: str) -> list[Trace]:
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("is not a trace of FedScale: it must map clients to their times")
    return [_of_client(str(client), each) for client, each in tree.items()]


def _of_client(client: str, each: Any) -> Trace:
    try:
        period_s = float(each["finish_time"])
        pairs = [
            (float(start), float(end))
            for start, end in zip(each["active"], each["inactive"], strict=True)
        ]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(
            f"has no trace of client {client}: active and inactive must be lists of as many "
            "seconds, and finish_time a number"
        ) from None
    if not (0 < period_s < math.inf) or not all(
        0 <= time <= period_s for pair in pairs for time in pair
    ):
        raise ValueError(f"has times of client {client} outside of 0 to its finish_time")
    parts = []
    for start, end in pairs:
        # One that ends before it starts goes on at the start of the next repetition.
        parts += [(start, end)] if start <= end else [(start, period_s), (0.0, end)]
    return _merged(parts), period_s


def _merged(times: Iterable[tuple[float, float]]) -> list[float]:
    """Overlapping and adjoining times as one, flattened, without very short ones."""
    found: list[float] = []
    for start, end in sorted(times):
        if found and start <= found[-1]:
            found[-1] = max(found[-1], end)
        elif start < end:
            found += [start, end]
    pairs = zip(found[::2], found[1::2], strict=True)
    return [each for start, end in pairs if end - start >= _LEAST_S for each in (start, end)]
