"""The benchmark's tables, and its command line as a user runs it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tuner.cli import Run, main
from tuner.defaults import Gain
from tuner.experiment import Outcome, Score, Variation
from tuner.kept import keep, keep_gains, read, read_gains
from tuner.peers import PEERS
from tuner.plan import PARTS, PREREGISTRATION, Plan, arguments
from tuner.product_report import defaults_summary, defaults_table
from tuner.registry import own_problems
from tuner.report import (
    best_optuna,
    by_peer,
    device_time_line,
    few_clients_table,
    fronts_table,
    reached_s,
    wrong_table,
)

ROOT = Path(__file__).resolve().parents[3]
BENCHMARK = ROOT / "simulations/benchmarks/tuner"
DOCS = (ROOT / "docs/benchmark.md").read_text()


def outcome(
    peer: str,
    seed: int,
    *true: float,
    claimed: float = 0.0,
    variation: Variation = Variation(),  # noqa: B008  # frozen
    infeasible: int = 0,
) -> Outcome:
    """A run scored at 10, 20, ... device-seconds."""
    curve = tuple(Score(n, 10.0 * n, value, claimed) for n, value in enumerate(true, start=1))
    return Outcome("toy", variation, peer, seed, curve, curve[-1], curve[-1], 10, infeasible)


def text(*tables: object) -> str:
    console = Console(width=160, file=io.StringIO(), record=True)
    for table in tables:
        console.print(table)
    return console.export_text()


def test_a_score_is_reached_at_the_first_checkpoint_that_has_it() -> None:
    run = outcome("tpe", 0, 0.1, 0.5, 0.4, 0.6)
    assert reached_s(run, 0.5) == 20.0
    assert reached_s(run, 0.6) == 40.0
    assert reached_s(run, 0.61) is None


def test_device_time_is_held_against_the_best_sampler_without_formulas() -> None:
    runs = by_peer(
        [
            *(outcome("random", seed, 0.1, 0.2, 0.2, 0.2) for seed in range(3)),
            # Reaches its final score at 30 s already: that is what it needed.
            *(outcome("tpe", seed, 0.1, 0.2, 0.4, 0.4) for seed in range(3)),
            *(outcome("tpe+filter", seed, 0.9, 0.9, 0.9, 0.9) for seed in range(3)),
            outcome("grey", 0, 0.4, 0.5, 0.5, 0.5),
            outcome("grey", 1, 0.3, 0.4, 0.5, 0.5),
            outcome("grey", 2, 0.3, 0.3, 0.3, 0.3),
        ]
    )
    assert best_optuna(runs) == "tpe"
    line = device_time_line(runs)
    assert "median 0.67 of tpe's own (0.33 to 0.67; never reached in 1 of 3 seeds)" in line


def test_a_sampler_that_found_nothing_is_no_yardstick() -> None:
    runs = by_peer([outcome("tpe", 0, 0.0), outcome("grey", 0, 0.5)])
    assert device_time_line(runs).endswith("tpe found nothing worth anything")


def test_there_is_no_device_time_without_ours() -> None:
    assert device_time_line(by_peer([outcome("tpe", 0, 0.5)])) == ""
    never = by_peer([outcome("tpe", 0, 0.5), outcome("grey", 0, 0.1)])
    assert device_time_line(never).endswith("never reached in 1 seeds")


def test_the_fronts_table_compares_ours_seed_by_seed() -> None:
    runs = by_peer(
        [
            *(outcome("tpe", seed, 0.5, claimed=0.7, infeasible=5) for seed in range(5)),
            *(outcome("grey", seed, 0.6 + 0.01 * seed) for seed in range(5)),
        ]
    )
    shown = text(fronts_table("toy", runs))
    row = next(line for line in shown.splitlines() if "tpe" in line)
    assert "0.500 ± 0.000" in row
    assert "0.700 ± 0.000" in row  # claimed
    assert "50.0 %" in row
    assert "0.0312" in row  # one of 2^5 sign patterns


def test_tables_are_made_again_from_raw_outcomes_as_they_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = (({"width": 8, "kind": "a", "rate": 0.1234567}, (0.5, 1.0)),)
    runs = [outcome("tpe", 0, 0.4), replace(outcome("grey", 0, 0.5), tried=tried)]
    keep(runs, tmp_path, ours="grey", called="grey, before")
    noisy = replace(outcome("grey", 0, 0.2), problem="noisy", variation=Variation(noise=4.0))
    quiet = replace(outcome("grey", 0, 0.3), problem="noisy")
    keep([outcome("grey", 0, 0.6), noisy, quiet], tmp_path, ours="grey", called="grey")
    kept = {each.peer: each for each in read([tmp_path / "toy.jsonl.gz"])}
    assert {name: each.final.true for name, each in kept.items()} == {
        "grey": 0.6, "grey, before": 0.5, "tpe": 0.4,
    }  # fmt: skip
    assert kept["grey, before"].tried == (
        ({"width": 8, "kind": "a", "rate": 0.123457}, (0.5, 1.0)),
    )
    assert main(["--kept", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in ("grey, before", "noisy, 1 seeds", "noisy, noise x 4, 1 seeds"):
        assert words in shown
    assert main(["--kept", str(tmp_path / "none")]) != 0
    (tmp_path / "toy.jsonl.gz").write_bytes(b"no gzip")
    assert main(["--kept", str(tmp_path)]) != 0
    assert "cannot be read" in capsys.readouterr().err


def test_outcomes_are_kept_as_each_seed_ends(tmp_path: Path) -> None:
    class Stopped:
        """Workers that are stopped after one seed."""

        def do(self, jobs: object) -> Iterator[tuple[list[Outcome], list[str]]]:
            yield [outcome("grey", 0, 0.5)], []
            raise KeyboardInterrupt

    plan = Plan.of(arguments().parse_args(["--problem", "tnk", "--seeds", "2"]))
    run = Run(plan, Console(file=io.StringIO()), Stopped(), tmp_path, "grey, before")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        run.everything()
    assert [each.peer for each in read([tmp_path / "toy.jsonl.gz"])] == ["grey, before"]


def test_another_peer_than_ours_can_be_held_against_the_others() -> None:
    runs = by_peer(
        [outcome("tpe", 0, 0.5), outcome("grey, no rung", 0, 0.5), outcome("grey", 0, 0.1)]
    )
    assert "median 1.00 of tpe's own" in device_time_line(runs, "grey, no rung")
    assert "grey, no rung" in text(fronts_table("toy", runs, "grey, no rung")).splitlines()[2]


def test_what_is_kept_is_measured_against_both_random_searches() -> None:
    few = Variation(evaluation_share=0.05)
    everyone = by_peer([outcome("random+filter", 0, 0.4), outcome("grey", 0, 0.8)])
    noisy = by_peer(
        [
            outcome("random+filter", 0, 0.3, variation=few),
            outcome("grey", 0, 0.6, variation=few),
        ]
    )
    shown = text(few_clients_table("toy", everyone, noisy, "random+filter", 0.05))
    assert "5 % evaluate" in shown
    row = next(line for line in shown.splitlines() if "grey" in line)
    assert "50 %" in row  # (0.6 - 0.4) / 0.4
    assert "75 %" in row  # (0.6 - 0.3) / 0.4


def test_wrong_formulas_are_shown_by_kind() -> None:
    low, scattered = Variation(error="low"), Variation(error="scattered")
    shown = text(
        wrong_table(
            [
                outcome("tpe+filter", 0, 0.5, variation=low, infeasible=3),
                outcome("tpe+filter", 0, 0.5, variation=scattered, infeasible=1),
            ]
        )
    )
    assert "30.0 %" in shown
    assert "10.0 %" in shown


def gain(error: float, inference_ms: float, sent_bytes: float, **costs: float) -> Gain:
    tuned = {"inference_ms": inference_ms, "sent_bytes": sent_bytes, "energy_j": 1.0} | costs
    pairs = {name: (1.0, value) for name, value in ({"memory_mib": 1.0} | tuned).items()}
    return Gain(
        "toy", 3, "a-board", {"width": 8}, (1.0, error), pairs, ("inference_ms", "energy_j")
    )


@pytest.mark.parametrize(
    ("error", "inference_ms", "sent_bytes", "saves"),
    [
        (0.8, 1.0, 1.0, True),
        (0.81, 1.0, 1.0, False),
        (1.0, 0.8, 1.0, True),
        (1.001, 0.5, 1.0, False),
        (0.5, 1.01, 1.0, False),
        (1.0, 1.0, 0.1, False),
        (0.5, 1.0, 9.0, True),
    ],
)
def test_a_fifth_of_the_error_or_of_a_cost_is_a_saving_if_no_objective_pays_for_it(
    error: float, inference_ms: float, sent_bytes: float, saves: bool
) -> None:
    found = gain(error, inference_ms, sent_bytes)  # bytes are no objective of this study
    assert found.saves == saves
    assert f"{int(saves)} of 1 save" in text(defaults_table([found]))


def test_gains_are_shown_from_default_to_tuned_in_units_of_their_own() -> None:
    shown = text(defaults_table([gain(0.25, 0.5, 0.1, energy_j=1.5)]))
    for cell in ("100 → 25 %, -75 %", "1,000 → 500 µs, -50 %", "1,000 → 1,500 mJ, +50 %"):
        assert cell in shown


def test_a_study_is_summed_up_over_its_seeds_by_device_type() -> None:
    better, worse, little = gain(0.7, 1.0, 2.0), gain(0.5, 1.2, 4.0), gain(0.9, 1.0, 6.0)
    rows = text(defaults_summary([better, replace(worse, seed=4), replace(little, device="other")]))
    row = next(line for line in rows.splitlines() if "a-board" in line)
    cells = [each.strip() for each in row.strip("│┃| ").split("│")]
    assert cells == [
        "toy", "a-board", "-40 % (-50 to -30)", "+10 % (+0 to +20)", "+0 % (+0 to +0)",
        "+200 % (+100 to +300) *", "1 of 2", "1 of 2",
    ]  # fmt: skip


def test_gains_are_kept_as_each_seed_ends_and_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(file: Path, *, seed: int, trials: int | None, workers: int) -> Iterator[Gain]:
        if seed == 6:
            raise KeyboardInterrupt
        yield replace(gain(0.7, 1.0, 1.0), study=file.stem, seed=seed)

    monkeypatch.setattr("tuner.cli.gains", stopped)
    options = ["--part", "defaults", "--study", "har", "--first-seed", "4", "--seeds", "3"]
    run = Run(Plan.of(arguments().parse_args(options)), Console(file=io.StringIO()), None, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        run.everything()
    keep_gains([replace(gain(0.6, 1.0, 1.0), study="har", seed=5)], tmp_path)  # run once more
    kept = read_gains([tmp_path / "har.jsonl.gz"])
    assert [(each.seed, each.error[1]) for each in kept] == [(4, 0.7), (5, 0.6)]
    assert kept[0].tuned == {"width": 8}
    assert main(["--part", "defaults", "--kept", str(tmp_path)]) == 0
    assert "-35 % (-40 to -30)" in capsys.readouterr().out
    assert main(["--part", "defaults", "--kept", str(tmp_path), "--study", "digits"]) != 0


@pytest.fixture(scope="module")
def benchmark() -> object:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(BENCHMARK), *arguments],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
            env=os.environ | {"COLUMNS": "150"},
        )  # fmt: skip

    return run


@pytest.mark.integration
def test_the_small_benchmark_runs_every_part_it_promises(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "outcomes.json"
    ran = benchmark("--small", "--json", str(file))
    assert ran.returncode == 0, ran.stderr
    for words in ("[judged]", "tnk, 2 seeds", "c2-dtlz2", "Formulas wrong by 30 %", "An ask"):
        assert words in ran.stdout
    assert "torch" in ran.stdout  # who is left out, and why
    kept = json.loads(file.read_text())
    assert kept["gains"] == []
    outcomes = kept["outcomes"]
    assert {each["peer"] for each in outcomes} >= {"random", "tpe", "tpe+filter", "grey"}
    ours = [each for each in outcomes if each["peer"] == "grey"]
    assert all(each["evaluations"] == 12 for each in ours)
    right = [each for each in ours if each["variation"]["error"] is None]
    assert sum(each["infeasible"] for each in right) == 0
    assert file.stat().st_size > 1000


@pytest.mark.integration
def test_the_documented_problem_of_ones_own_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", DOCS, re.S)
    assert example
    (tmp_path / "my_module.py").write_text(example.group(1))
    options = ["--seeds", "1", "--trials", "8", "--peer", "random", "--peer", "random+filter"]
    ran = subprocess.run(
        [sys.executable, str(BENCHMARK), "--problem", "my_module:Slope", *options],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "my_module:Slope, 1 seeds" in ran.stdout


def test_every_peer_problem_and_part_is_documented() -> None:
    for name in (*(entry.name for entry in PEERS), *own_problems(), *PARTS):
        assert f"`{name}`" in DOCS, name


def test_every_judged_problem_exists_and_none_is_tuned_on_at_the_same_seeds() -> None:
    registered = tomllib.loads(PREREGISTRATION.read_text())
    judged, development = registered["judged"], registered["development"]
    tuned, asked = development["recommend"]["problems"], judged["recommend"]["problems"]
    ours, later = set(development["problems"]), set(judged["search"]["problems"])
    unseen = {*judged["genes"]["problems"], *judged["garments"]["problems"]}
    assert {*judged["problems"], *later, *unseen, *ours, *tuned, *asked} == set(own_problems())
    assert not unseen & {*ours, *tuned}
    assert not set(tuned) & set(asked)
    assert development["recommend"]["first_seed"] + 100 < judged["recommend"]["first_seed"]
    assert set(judged["problems"]) & ours == {"digits"}  # of the first judged sets alone
    assert not later & ours
    assert judged["search"]["first_seed"] > judged["warm_start"]["first_seed"]
    assert development["first_seed"] + 100 < judged["first_seed"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--problem", "tkn"), "did you mean 'tnk'"),
        (("--peer", "tpee"), "did you mean 'tpe'"),
        (("--seeds", "0"), "--seeds 0 is too few"),
        (("--evaluate", "5"), "--evaluate 5 is no share"),
        (("--noise", "-1"), "--noise -1 is no multiple"),
        (("--noise", "4", "--problem", "digits"), "--noise is for formulas and tables"),
        (("--noise", "4"), "--noise is for formulas and tables"),
        (
            ("--noise", "4", "--problem", "tnk", "--part", "wrong"),
            "--noise acts in the part fronts",
        ),
    ],
)
def test_bad_options_are_one_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
