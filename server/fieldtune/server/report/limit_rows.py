"""What each limit ruled out, and the value of the limit that would have sufficed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fieldtune.server.report.format import figure, label
from fieldtune.server.report.trials_view import ruled_out_by
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.config import StudyConfig

SUFFICED = ("would have sufficed for one more", "would have sufficed for all")
"""Headings of the limits that are worked out from predictions."""


@dataclass(frozen=True)
class LimitRow:
    """One limit, as text."""

    label: str
    cells: tuple[str, ...]
    """Its value, configurations that exceeded it most and at all, and the values that would have
    let in one more of them, or all."""


def limit_rows(summary: Summary, study: StudyConfig | None) -> list[LimitRow]:
    """The limits that ruled something out, the hardest first."""
    caps = {} if study is None else _caps(study)
    rows = []
    for name, first, missed in ruled_out_by(summary):
        alone = [
            attempt.constraints[name]
            for attempt in summary.attempts
            if attempt.state == "infeasible"
            and name in attempt.constraints
            and name != "coverage"
            and all(
                value <= 0 or other == name or math.isclose(value, attempt.constraints[name])
                for other, value in attempt.constraints.items()
            )
        ]
        values = caps.get(name, {})
        said = ", ".join(
            figure(name, cap) + (f" on {device}" if device else "")
            for device, cap in values.items()
        )
        rows.append(
            LimitRow(
                label(name),
                (
                    said,
                    str(first),
                    str(missed),
                    *(_sufficient(name, values, gap) for gap in (min(alone), max(alone))),
                )
                if alone
                else (said, str(first), str(missed), "not alone", "not alone"),
            )
        )
    return rows


def _caps(study: StudyConfig) -> dict[str, dict[str, float]]:
    """Limit -> device type, or an empty name for all of them -> the value in the study file."""
    found: dict[str, dict[str, float]] = {}
    for device, section in {"": study.limits, **study.limits.devices}.items():
        for name in ("memory_mib", "storage_mib", "round_s", "inference_ms", "energy_j"):
            if (cap := getattr(section, name)) is not None:
                found.setdefault(name, {})[device] = cap
    if study.limits.epsilon is not None:
        found["epsilon"] = {"": study.limits.epsilon}
    return found


def _sufficient(name: str, values: dict[str, float], gap: float) -> str:
    """The limit that a configuration needs which exceeds it by this share, rounded up."""
    if len(values) != 1:
        return f"{math.ceil(1000 * gap) / 10:g} % more"
    (cap,) = values.values()
    return figure_at_least(name, cap * (1 + gap))


def figure_at_least(name: str, value: float) -> str:
    """A measure with its unit, rounded up to what is written."""
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return figure(name, math.ceil(value / power - 1e-9) * power)
