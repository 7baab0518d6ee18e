"""From outcomes of peers to tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.table import Table

from tuner.experiment import Outcome
from tuner.peers import OURS, PEERS, WARM
from tuner.significance import holm, no_worse_p, paired_p, spread

MARGIN = 0.05
"""A hypervolume that is lower by less counts as no worse."""

Runs = Mapping[str, Mapping[int, Outcome]]
"""Peer -> seed -> outcome, in the order of the table of peers."""


def by_peer(outcomes: Iterable[Outcome]) -> Runs:
    """Outcomes of one problem, sorted."""
    runs: dict[str, dict[int, Outcome]] = {entry.name: {} for entry in (*PEERS, *WARM)}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.seed):
        runs.setdefault(outcome.peer, {})[outcome.seed] = outcome
    return {name: seeds for name, seeds in runs.items() if seeds}


def fronts_table(problem: str, runs: Runs, ours: str = OURS) -> Table:
    """Every peer's score, what it claimed, and how ours compares with it, seed by seed."""
    seeds = max(len(each) for each in runs.values())
    table = Table(title=f"{problem}, {seeds} seeds", title_justify="left")
    for column in (
        "peer",
        "true hypervolume",
        "claimed",
        "true, were it by value",
        "true, were it by model",
        "infeasible",
        f"{ours} higher: p",
        "Holm",
        f"no worse by {MARGIN:g}: p",
    ):
        table.add_column(column, justify="left" if column == "peer" else "right")
    p = {
        name: paired_p(*_paired(runs[ours], seeds))
        for name, seeds in runs.items()
        if ours in runs and name != ours
    }
    corrected = holm(p)
    no_worse = {name: no_worse_p(*_paired(runs[ours], runs[name]), MARGIN) for name in p}
    for name, each in runs.items():
        some = list(each.values())
        table.add_row(
            name,
            spread([outcome.final.true for outcome in some]),
            spread([outcome.final.claimed for outcome in some]),
            spread([outcome.value_pick.true for outcome in some]),
            spread([outcome.posterior_pick.true for outcome in some]),
            f"{100 * infeasible_share(some):.1f} %",
            f"{p[name]:.4f}" if name in p else "-",
            f"{corrected[name]:.4f}" if name in p else "-",
            f"{no_worse[name]:.4f}" if name in p else "-",
        )
    return table


def _paired(
    ours: Mapping[int, Outcome], theirs: Mapping[int, Outcome]
) -> tuple[list[float], list[float]]:
    common = sorted(set(ours) & set(theirs))
    return [ours[seed].final.true for seed in common], [theirs[seed].final.true for seed in common]


def infeasible_share(outcomes: Sequence[Outcome]) -> float:
    """Of all evaluations of these runs."""
    return sum(o.infeasible for o in outcomes) / sum(o.evaluations for o in outcomes)


def best_optuna(runs: Runs) -> str | None:
    """The sampler of Optuna's own, without formulas, with the highest mean score."""
    own = [entry.name for entry in PEERS if entry.optuna and entry.name in runs]
    scores = {name: np.mean([o.final.true for o in runs[name].values()]) for name in own}
    return max(scores, key=lambda name: scores[name]) if scores else None


def reached_s(outcome: Outcome, target: float) -> float | None:
    """Device-seconds after which a run's recommendation was first worth this; None if never."""
    return next((at.device_s for at in outcome.curve if at.true >= target), None)


def device_time_line(runs: Runs, ours: str = OURS) -> str:
    """Device-seconds of ours for the best Optuna sampler's final score, over that sampler's own.

    Either time is that of the first checkpoint at which the score is reached; no interpolation.
    """
    best = best_optuna(runs)
    if best is None or ours not in runs:
        return ""
    ratios, never = [], 0
    for seed in sorted(set(runs[ours]) & set(runs[best])):
        theirs, own = runs[best][seed], runs[ours][seed]
        if theirs.final.true <= 0:
            continue  # it found nothing that the limits allow: any run is worth as much at once
        needed, spent = (reached_s(each, theirs.final.true) for each in (theirs, own))
        assert needed is not None  # its last checkpoint reaches its final score
        if spent is None:
            never += 1
        else:
            ratios.append(spent / needed)
    if not ratios and not never:
        return f"device-seconds: not comparable, {best} found nothing worth anything"
    if not ratios:
        return f"device-seconds to {best}'s final score: never reached in {never} seeds"
    # Runs that never reach it count as the worst, so the median is not flattered.
    median = float(np.median([*ratios, *[np.inf] * never]))
    return (
        f"device-seconds to {best}'s final score: median {median:.2f} of {best}'s own "
        f"({min(ratios):.2f} to {max(ratios):.2f}; never reached in {never} of "
        f"{len(ratios) + never} seeds)"
    )


def curve_table(problem: str, runs: Runs) -> Table:
    """Mean score at each share of the budget."""
    table = Table(title=f"{problem}: true hypervolume by budget spent", title_justify="left")
    table.add_column("peer")
    longest = max((o for each in runs.values() for o in each.values()), key=lambda o: len(o.curve))
    for at in longest.curve:
        table.add_column(f"{100 * at.paid / longest.final.paid:.0f} %", justify="right")
    for name, each in runs.items():
        curves = [[at.true for at in outcome.curve] for outcome in each.values()]
        table.add_row(name, *(f"{value:.2f}" for value in np.mean(curves, axis=0)))
    return table


def wrong_table(outcomes: Sequence[Outcome]) -> Table:
    """Share of evaluations that missed a limit while the formulas were wrong."""
    table = Table(title="Formulas wrong by 30 %: evaluations that missed a limit")
    table.add_column("problem")
    table.add_column("formulas")
    peers = list(by_peer(outcomes))
    for name in peers:
        table.add_column(name, justify="right")
        table.add_column("true", justify="right")
    for problem in dict.fromkeys(outcome.problem for outcome in outcomes):
        for error in ("low", "scattered"):
            some = [o for o in outcomes if o.problem == problem and o.variation.error == error]
            runs = by_peer(some)
            cells = []
            for name in peers:
                found = list(runs.get(name, {}).values())
                cells += (
                    [
                        f"{100 * infeasible_share(found):.1f} %",
                        spread([o.final.true for o in found]),
                    ]
                    if found
                    else ["-", "-"]
                )
            table.add_row(problem, error, *cells)
    return table


def few_clients_table(problem: str, everyone: Runs, few: Runs, base: str, share: float) -> Table:
    """What each peer keeps of its noise-free gain over random search.

    ``kept, strict`` compares the noisy run with random search that was evaluated on everyone;
    ``kept, fair`` with random search that was evaluated on as few.
    """
    said = f"{100 * share:g} %"
    table = Table(title=f"{problem}: {said} of the clients evaluate", title_justify="left")
    names = ("peer", "all evaluate", f"{said} evaluate", "claimed", "kept, strict", "kept, fair")
    for column in names:
        table.add_column(column, justify="left" if column == "peer" else "right")

    def mean(runs: Runs, name: str) -> float:
        return float(np.mean([outcome.final.true for outcome in runs[name].values()]))

    for name in everyone:
        if name not in few:
            continue
        gain = mean(everyone, name) - mean(everyone, base)
        strict, fair = (mean(few, name) - mean(which, base) for which in (everyone, few))
        shown = [f"{100 * kept / gain:.0f} %" if gain > 0 else "no gain" for kept in (strict, fair)]
        table.add_row(
            name,
            spread([o.final.true for o in everyone[name].values()]),
            spread([o.final.true for o in few[name].values()]),
            spread([o.final.claimed for o in few[name].values()]),
            *(shown if name != base else ["-", "-"]),
        )
    return table


def warm_table(problem: str, runs: Runs) -> Table:
    """What earlier studies bring, or cost, against ours without them, seed by seed.

    The p values are of the claim that the mean score over the curve is higher, and lower.
    """
    seeds = max(len(each) for each in runs.values())
    table = Table(
        title=f"{problem}, {seeds} seeds: true hypervolume by budget spent, after an earlier study",
        title_justify="left",
    )
    table.add_column("peer")
    longest = max((o for each in runs.values() for o in each.values()), key=lambda o: len(o.curve))
    for at in longest.curve:
        table.add_column(f"{100 * at.paid / longest.final.paid:.0f} %", justify="right")
    for column in ("better, p", "worse, p"):
        table.add_column(column, justify="right")

    def overall(name: str, seed: int) -> float:
        return float(np.mean([at.true for at in runs[name][seed].curve]))

    for name, each in runs.items():
        curves = [[at.true for at in outcome.curve] for outcome in each.values()]
        p = ["", ""]
        if name != OURS and OURS in runs:
            common = sorted(set(each) & set(runs[OURS]))
            with_it, without = ([overall(which, seed) for seed in common] for which in (name, OURS))
            p = [f"{paired_p(*pair):.3f}" for pair in ((with_it, without), (without, with_it))]
        table.add_row(name, *(f"{value:.2f}" for value in np.mean(curves, axis=0)), *p)
    return table
