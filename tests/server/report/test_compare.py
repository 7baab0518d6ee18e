"""Several runs on one page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.report.compare import compare_html, read_runs
from fieldtune.server.results.schema import Summary, to_json
from support.commandline import Command
from support.pages import HOSTILE, Parsed

MakeSummary = Callable[..., Summary]


@pytest.fixture
def folders(make_summary: MakeSummary, tmp_path: Path) -> list[Path]:
    found = []
    for name, summary in (
        ("one", make_summary()),
        ("two", make_summary(("energy_j", "error"), seed=8, study=HOSTILE)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pareto.json").write_text(to_json(summary))
        found.append(folder)
    return found


def test_runs_stand_side_by_side_by_the_objectives_they_share(folders: list[Path]) -> None:
    runs = read_runs(folders)
    html = compare_html(runs)
    page = Parsed(html)
    assert page.data["objectives"] == ["error", "energy_j"]
    assert [run["name"] for run in page.data["runs"]] == ["one", "two"]
    for run, drawn in zip(runs, page.data["runs"], strict=True):
        assert len(drawn["points"]) == len(run.summary.front)
        shares = [step["share"] for step in drawn["attainment"]]
        assert shares == sorted(shares)
        assert shares[-1] > 0
    assert "Error simulated" in page.text
    assert "Training energy predicted" in page.text
    assert HOSTILE in page.text
    assert not page.all("img")
    assert compare_html(read_runs(folders)) == html


def test_runs_that_know_a_figure_in_other_ways_say_so_beside_each(folders: list[Path]) -> None:
    first, second = read_runs(folders)
    measured = {**second.summary.known_by, "error": "measured"}
    known = second.summary.model_copy(update={"simulated": False, "known_by": measured})
    text = Parsed(compare_html([first, replace(second, summary=known)])).text
    assert "Error simulated" not in text
    assert re.search(r"Error [\d.]+ % [\d.–]+ simulated [\d.]+ % [\d.–]+ measured", text)  # noqa: RUF001


def test_the_command_writes_the_page(folders: list[Path], fieldtune: Command) -> None:
    out = folders[0] / "page.html"
    done = fieldtune("compare", *folders, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "one against two" in done.stdout
    assert out.read_text() == compare_html(read_runs(folders))


def test_what_cannot_be_compared_is_refused(
    folders: list[Path], make_summary: MakeSummary, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="2 to 6 run folders, not 1"):
        read_runs(folders[:1])
    folder = tmp_path / "three"
    folder.mkdir()
    (folder / "pareto.json").write_text(to_json(make_summary(("loss",))))
    with pytest.raises(UsageError, match="no objective in common: one has error"):
        read_runs([folders[0], folder])
