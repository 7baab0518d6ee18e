"""The answer for another device: how far it can be trusted, and which of its files are measured."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.report.prospects import print_prospects
from fieldtune.server.results.export import retargeted_file, to_measure
from fieldtune.server.results.retarget import MOST_PROSPECTS, Retargeted
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.study.space import Configuration
from fieldtune.server.tuner.suggestions import Prospect


def printed(found: Retargeted) -> str:
    text = io.StringIO()
    print_prospects(found, "raspberry-pi-3b", Console(file=text, width=200))
    return text.getvalue()


def wanted(count: int) -> list[Prospect]:
    return [
        Prospect(Configuration({"width": width}, {}, {}), gain=0.5 / (1 + width))
        for width in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "About 1 more trial would improve it"),
        (4, "About 4 more trials would improve it"),
        (MOST_PROSPECTS, f"At least {MOST_PROSPECTS} more trials would improve it"),
    ],
)
def test_it_says_how_many_trials_would_settle_the_front(
    count: int, said: str, summary: Summary
) -> None:
    text = printed(Retargeted(summary, 0.0, wanted(count), [False] * count))
    assert said in text
    assert text.count("width=") == min(count, 3)
    assert "extrapolat" not in text


def test_trials_that_the_studys_own_fleet_ruled_out_are_marked(summary: Summary) -> None:
    text = printed(Retargeted(summary, 0.25, wanted(2), [True, False]))
    assert (
        "25 % of the configurations that fit it did not fit the study's own fleet and were never "
        "tried" in text
    )
    assert "width=0 (+50 %), extrapolated\n" in text
    assert "width=1 (+25 %)\n" in text


def test_a_settled_front_needs_no_further_trial(summary: Summary) -> None:
    assert "No further trial is expected to add 1 %" in printed(Retargeted(summary, 0.0, [], []))


def test_the_studys_command_measures_what_is_recommended_for_other_device_types_too(
    summary: Summary, tmp_path: Path
) -> None:
    (device, chosen), *_ = summary.recommended.items()
    own = {each.trial for each in summary.exported}
    assert own == {each.trial for each in summary.recommended.values()} | {0}
    other = next(each for each in summary.front if each.trial not in own)
    assert to_measure(tmp_path, summary) == summary.exported
    moved = {device: chosen.model_copy(update={"trial": other.trial})}
    file = tmp_path / retargeted_file(device)
    file.parent.mkdir()
    file.write_text(to_json(summary.model_copy(update={"recommended": moved})))
    assert to_measure(tmp_path, summary) == [*summary.exported, other]
    file.write_text("{}")
    with pytest.raises(RunFolderError, match="is damaged"):
        to_measure(tmp_path, summary)
