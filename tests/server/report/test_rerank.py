"""Other weights and narrower limits on stored trials: as the rule itself decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fieldtune.api as ft
from fieldtune.profiles.common.errors import RunFolderError, UsageError
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.results.needs import need_of, without_hopeless
from fieldtune.server.results.rerank import choose
from fieldtune.server.results.run_folder import read_summary
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.results.stored_choices import DecisionRule

LIMITS = list(DeviceLimits.__dataclass_fields__)
Limits = dict[str, dict[str, float]]


def narrower(summary: Summary, rng: np.random.Generator) -> Limits:
    """One or two limits, each of what some trial needs on some client."""
    found: Limits = {}
    for _ in range(rng.integers(1, 3)):
        device, limit = str(rng.choice(list(summary.devices))), str(rng.choice(LIMITS))
        point = summary.stored[rng.integers(len(summary.stored))]
        needs = need_of(point, device, limit, summary.samples[device])
        assert needs
        found.setdefault(device, {})[limit] = 1.001 * float(rng.choice(needs))
    return found


def as_lines(weights: dict[str, float], confidence: float, limits: Limits) -> str:
    """What a study file says of them."""
    said = ", ".join(f"{name} = {value}" for name, value in weights.items())
    lines = ["[decision]", f"confidence = {confidence}", f"weights = {{ {said} }}"]
    for device, caps in limits.items():
        lines += [f'[limits."{device}"]', *(f"{name} = {cap}" for name, cap in caps.items())]
    return "\n".join(lines)


@pytest.mark.parametrize("coverage", [0.3, 0.9])
@pytest.mark.parametrize("with_defaults", [True, False])
def test_stored_trials_are_ranked_as_the_rule_ranks_them_within_narrower_limits(
    make_summary: Callable[..., Summary],
    decide_again: Callable[[Summary, str], dict[str, int]],
    coverage: float,
    with_defaults: bool,
) -> None:
    rng = np.random.default_rng(0)
    for seed in range(3):
        summary = make_summary(seed=seed, with_defaults=with_defaults)
        summary = summary.model_copy(update={"coverage": coverage})
        for _ in range(8):
            limits = narrower(summary, rng)
            weights = {e.name: round(float(rng.uniform(0, 3)), 2) for e in summary.objectives}
            confidence = float(rng.choice([0.6, 0.9, 0.99]))
            on = dict.fromkeys(summary.devices, weights)
            found = choose(summary, on, confidence, limits)
            assert found == decide_again(summary, as_lines(weights, confidence, limits))
            assert choose(summary, on, confidence) == decide_again(
                summary.model_copy(update={"coverage": 0.0, "dominated": []}),
                as_lines(weights, confidence, {}),
            )


def test_of_many_trials_those_are_left_out_that_another_equals_in_everything(
    summary: Summary,
) -> None:
    def row(trial: int) -> list[float]:
        point = summary.point(trial)
        needs = [
            need_of(point, device, limit, summary.samples[device]) or []
            for device in summary.devices
            for limit in LIMITS
        ]
        costs = [
            d.costs[n].value for d in point.devices.values() for n in ("inference_ms", "energy_j")
        ]
        return [point.objectives["error"].value, *costs, *(each for need in needs for each in need)]

    kept = {point.trial for point in without_hopeless(summary).stored}
    dropped = {point.trial for point in summary.stored} - kept
    assert dropped
    for trial in dropped:
        assert any(np.all(np.array(row(other)) <= row(trial)) for other in kept)
    for chosen in without_hopeless(summary).recommended.values():
        assert {each.trial for each in chosen.dominated} <= kept


def test_a_dominated_trial_is_the_best_that_fits(summary: Summary, tmp_path: Path) -> None:
    """Memory is no objective: a smaller model may be worse in everything that is one."""
    names = [each.name for each in summary.objectives]
    rule = DecisionRule(weights=dict.fromkeys(names, 1.0), tolerance=0.01, confidence=0.9)
    (tmp_path / "pareto.json").write_text(
        to_json(summary.model_copy(update={"decision": rule, "coverage": 0.5}))
    )
    run = pytest.importorskip("pandas") and ft.load(tmp_path)
    needs = {
        each.trial: each.devices["raspberry-pi-5"].needs["memory_mib"][0] for each in summary.stored
    }
    chosen = set()
    for cap in sorted({*needs.values()}):
        limits = {device: {"memory_mib": 1.0001 * cap} for device in summary.devices}
        found = {point.trial for point in run.recommend(limits=limits).values()}
        assert all(needs[trial] <= cap for trial in found)
        chosen |= found
    assert chosen & {point.trial for point in summary.dominated}
    assert run.recommend(limits={"raspberry-pi-5": {"memory_mib": 1.0}}).keys() == (
        summary.recommended.keys() - {"raspberry-pi-5"}
    )
    for wrong, said in (
        ({"raspberry-pi-6": {}}, "did you mean 'raspberry-pi-5'"),
        ({"raspberry-pi-5": {"memory": 1.0}}, "did you mean 'memory_mib'"),
        ({"raspberry-pi-5": {"memory_mib": -1.0}}, "must be above 0$"),
    ):
        with pytest.raises(UsageError, match=said):
            run.recommend(limits=wrong)


def test_what_dominated_trials_lack_is_told_before_anything_is_chosen_from_them(
    summary: Summary, tmp_path: Path
) -> None:
    first, *others = summary.dominated
    seen = first.devices["raspberry-pi-5"].model_copy(update={"used": {"memory_mib": [1.0]}})
    for damage, said in (
        ({"objectives": {}}, f"trial {first.trial} lacks the objective"),
        ({"devices": {}}, f"trial {first.trial} lacks the device type"),
        ({"calls": (0, 1, 8)}, f"trial {first.trial} has a batch"),
        ({"devices": first.devices | {"raspberry-pi-5": seen}}, "of other clients of 'raspberry"),
        ({"trial": 999}, f"ranks trial {first.trial}, which is not among the dominated"),
    ):
        damaged = [first.model_copy(update=damage), *others]
        text = to_json(summary.model_copy(update={"dominated": damaged}))
        (tmp_path / "pareto.json").write_text(text)
        with pytest.raises(RunFolderError, match=said):
            read_summary(tmp_path)


def test_defaults_on_the_front_are_looked_at_for_themselves(
    summary: Summary, tmp_path: Path
) -> None:
    own = summary.front[0].model_copy(update={"objectives": {}})
    (tmp_path / "pareto.json").write_text(to_json(summary.model_copy(update={"defaults": own})))
    with pytest.raises(RunFolderError, match=f"trial {own.trial} lacks the objective"):
        read_summary(tmp_path)
