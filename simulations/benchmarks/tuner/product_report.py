"""Tables of what tuning brings the product's users: recommendations against the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from rich.table import Table

from tuner.defaults import Gain, share
from tuner.recommend import WORSE, Verdict, by_problem, worse


def defaults_table(gains: Sequence[Gain]) -> Table:
    """What each device type gains over a study's defaults, and how many gain enough."""
    saved = sum(gain.saves for gain in gains)
    table = Table(
        title=f"Tuned against default, each trained afresh from 9 seeds: {saved} of {len(gains)} "
        "save a fifth of the error or of a cost, and nothing is worse",
        title_justify="left",
    )
    for column in ("study", "seed", "device", "error", "inference", "energy", "memory", "sent"):
        table.add_column(column, justify="left" if column in ("study", "device") else "right")
    table.add_column("saves", justify="right")
    for gain in gains:
        costs = gain.costs
        table.add_row(
            gain.study,
            str(gain.seed),
            gain.device,
            _change(gain.error, 100, " %"),
            _change(costs["inference_ms"], 1000, " µs"),
            _change(costs["energy_j"], 1000, " mJ"),
            _change(costs["memory_mib"], 1, " MiB"),
            _change(costs["sent_bytes"], 1 / 1024, " KiB"),
            "yes" if gain.saves else "no",
        )
    return table


def defaults_summary(gains: Sequence[Gain]) -> Table:
    """Of each study and device type: change over seeds, and in how many it saves or is worse."""
    table = Table(
        title="Change by tuning: mean over seeds (smallest to largest); * is not traded off by the "
        "study",
        title_justify="left",
    )
    for column in ("study", "device", "error", "inference", "energy", "sent", "saves", "worse"):
        table.add_column(column, justify="left" if column in ("study", "device") else "right")

    def key(gain: Gain) -> tuple[str, str]:
        return gain.study, gain.device

    for names, each in groupby(sorted(gains, key=key), key):
        some = list(each)
        costs = [
            _spread([share(gain.costs[name]) for gain in some])
            + ("" if name in some[0].traded else " *")
            for name in ("inference_ms", "energy_j", "sent_bytes")
        ]
        table.add_row(
            *names,
            _spread([share(gain.error) for gain in some]),
            *costs,
            f"{sum(gain.saves for gain in some)} of {len(some)}",
            f"{sum(gain.worse for gain in some)} of {len(some)}",
        )
    return table


def recommend_table(verdicts: Sequence[Verdict]) -> Table:
    """What recommendations promised and kept, by problem."""
    table = Table(
        title="Recommended against the defaults, by the truth; changes are of what is learned",
        title_justify="left",
    )
    for column in (
        "problem", "seeds", "worse by 1 %", "by 5 %", "were it by the mean", "defaults kept",
        "promised", "true", "joint gain", "possible", "repeats",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "problem" else "right")

    def percent(value: float) -> str:
        return f"{100 * value:.0f} %"

    for name, each in by_problem(verdicts).items():
        true = [verdict.true for verdict in each]
        other = [verdict for verdict in each if not verdict.defaults]
        changes = [
            f"{100 * float(np.mean(some)):+.1f} %" if some else "-"
            for some in ([v.promised for v in other], [v.true for v in other])
        ]
        table.add_row(
            name,
            str(len(each)),
            *(percent(worse(true, by)) for by in WORSE),
            percent(worse([verdict.by_mean for verdict in each], WORSE[0])),
            percent(float(np.mean([verdict.defaults for verdict in each]))),
            *changes,
            *(
                f"{np.mean(some):.2f}"
                for some in ([v.gain for v in each], [v.possible for v in each])
            ),
            f"{np.mean([verdict.repeats for verdict in each]):.1f}",
        )
    return table


def _change(pair: tuple[float, float], factor: float, unit: str) -> str:
    before, after = pair
    change = f"{100 * (after / before - 1):+.0f} %" if before else "-"
    return f"{_figure(factor * before)} → {_figure(factor * after)}{unit}, {change}"


def _spread(shares: Sequence[float]) -> str:
    mean, least, most = (100 * (f(shares) - 1) for f in (np.mean, min, max))
    return f"{mean:+.0f} % ({least:+.0f} to {most:+.0f})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
