"""``fieldtune.api``: the results of a run for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fieldtune.api as ft
from fieldtune.profiles.common.errors import RunFolderError, UsageError
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.results.stored_choices import DecisionRule
from fieldtune.server.results.stored_files import VariantFile

pytest.importorskip("pandas", reason="needs the extra notebook")
pytest.importorskip("plotly", reason="needs the extra notebook")
CSV = "number,state,phase,width,objective:error\n0,completed,explore,32,0.25\n1,infeasible,,64,\n"
NOTEBOOK = Path(__file__).parents[3] / "docs/explore.ipynb"
CURVE = {5: {"error": 0.4}, 20: {"error": 0.25}}


@pytest.fixture
def complete(summary: Summary) -> Summary:
    file = VariantFile(
        bytes=9, sha256="0" * 64, measures={"error": 0.1}, test_samples=9,
        client_errors={"raspberry-pi-5": [0.1, 0.3]},
    )  # fmt: skip
    first = summary.front[0].model_copy(update={"variants": {"fp32": file}, "losses": [2.0, 1.0]})
    attempts = [summary.attempts[0].model_copy(update={"curve": CURVE}), *summary.attempts[1:]]
    names = [each.name for each in summary.objectives]
    rule = DecisionRule(weights=dict.fromkeys(names, 1.0), tolerance=0.01, confidence=0.9)
    return summary.model_copy(
        update={"front": [first, *summary.front[1:]], "attempts": attempts, "decision": rule}
    )


@pytest.fixture
def run(complete: Summary, tmp_path: Path) -> ft.Run:
    (tmp_path / "pareto.json").write_text(to_json(complete))
    (tmp_path / "trials.csv").write_text(CSV)
    return ft.load(tmp_path)


def test_the_notebook_runs_cell_by_cell(run: ft.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    monkeypatch.setattr(ft, "load", lambda folder: run)
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - the repository's own notebook


def test_frames_hold_what_the_files_hold(run: ft.Run, complete: Summary) -> None:
    assert list(run.trials.index) == [0, 1]
    assert run.trials.loc[0, "objective:error"] == 0.25
    front = run.front
    assert list(front.index) == [point.trial for point in complete.deployable]
    for point in complete.deployable:
        for name, each in point.objectives.items():
            row = front.loc[point.trial]
            assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == (
                each.value,
                each.low,
                each.high,
            )
    chosen = complete.recommended["raspberry-pi-5"].trial
    assert "raspberry-pi-5" in front.loc[chosen, "recommended_for"]
    trial = complete.front[0].trial
    rounds = run.rounds
    assert list(rounds[rounds["trial"] == trial]["training_loss"]) == [2.0, 1.0]
    assert list(rounds[rounds["trial"] == 0]["error"].dropna()) == [0.4, 0.25]
    assert run.clients.values.tolist() == [
        [trial, "fp32", "raspberry-pi-5", 0.1],
        [trial, "fp32", "raspberry-pi-5", 0.3],
    ]


def test_a_recommendation_is_the_studys_own_or_by_other_weights(
    run: ft.Run, complete: Summary
) -> None:
    own = {device: chosen.trial for device, chosen in complete.recommended.items()}
    assert {device: point.trial for device, point in run.recommend().items()} == own
    accurate = run.recommend(weights={"error": 100.0})["raspberry-pi-5"]
    assert accurate.objectives["error"].value < run.recommend()["raspberry-pi-5"].objectives[
        "error"
    ].value  # fmt: skip
    with pytest.raises(UsageError, match=r"'eror' is no objective .*did you mean 'error'"):
        run.recommend(weights={"eror": 1.0})
    with pytest.raises(UsageError, match="give 0 or more"):
        run.recommend(weights={"error": -1.0})


def test_a_run_of_an_earlier_version_says_that_it_ranks_nothing(
    summary: Summary, tmp_path: Path
) -> None:
    (tmp_path / "pareto.json").write_text(to_json(summary))
    with pytest.raises(RunFolderError, match="earlier version"):
        ft.load(tmp_path).recommend()


def test_a_notebook_shows_recommendations_and_front_with_names_as_text(
    run: ft.Run, complete: Summary, tmp_path: Path
) -> None:
    hostile = complete.model_copy(update={"study": "<script>"})
    (tmp_path / "pareto.json").write_text(to_json(hostile))
    shown = ft.load(tmp_path)._repr_html_()
    assert "<script>" not in shown
    for device, chosen in complete.recommended.items():
        assert f"<td>{device}</td><td>{chosen.trial}</td>" in shown
    assert repr(run).startswith("<Run digits-on-pi: 40 trials")


def test_figures_are_plotlys(run: ft.Run, complete: Summary) -> None:
    figures = run.figures
    assert set(figures) == {"front", "history", "parallel"}
    assert list(figures["front"].data[0].y) == [
        point.objectives["error"].value for point in complete.deployable
    ]
