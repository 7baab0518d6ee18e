"""The report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import RunInfo
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.load import parse_study
from support.commandline import ROOT

MakeSummary = Callable[..., Summary]
OBJECTIVES = [
    ("error",),
    ("error", "inference_ms"),
    ("error", "inference_ms", "energy_j"),
    ("-macro_f1", "inference_ms", "energy_j", "sent_bytes"),
    ("loss", "round_s"),
]
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Elements, visible text, and what a page holds by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.words.append(data)
        elif self._within[-1] == "script":
            self.scripts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(s for s in self.scripts if s.startswith('{"')))

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for attributes in self.all("section")]


@pytest.fixture(scope="module")
def html(summary: Summary) -> str:
    return render_html(summary)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_trial_of_the_front_and_every_device_is_in_the_page(
    page: Page, summary: Summary
) -> None:
    keys = {attributes.get("data-key") for attributes in page.all("th")}
    assert {str(point.trial) for point in summary.front} <= keys
    points = {point["trial"]: point for point in page.data["points"]}
    for point in summary.front:
        assert set(points[point.trial]["devices"]) == set(summary.devices)


def test_the_first_table_has_a_file_a_trial_and_a_command_each(
    page: Page, summary: Summary
) -> None:
    chosen = {choice.trial for choice in summary.recommended.values()}
    for trial in chosen:
        assert f"--trial {trial} --out {summary.study}-trial-{trial}.tflite" in page.text
    assert page.text.count("fieldtune export") == len(chosen)
    for device in summary.devices:
        assert page.text.count(device) >= 1


@pytest.mark.parametrize("with_defaults", [True, False])
@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_any_objectives_make_a_page(
    make_summary: MakeSummary, objectives: tuple[str, ...], with_defaults: bool
) -> None:
    page = Page(render_html(make_summary(objectives, with_defaults=with_defaults)))
    assert page.data["objectives"] == [name.removeprefix("-") for name in objectives]
    assert {"deploy", "choices", "tradeoff", "parameters", "finished"} <= set(page.sections)


def test_data_is_there_once_and_small(make_summary: MakeSummary) -> None:
    large = make_summary(attempts=2000)
    html = render_html(large)
    assert len(html) < 4_000_000
    assert len(Page(html).data["trials"]) == 2000


def test_an_empty_front_leaves_the_limits_and_a_sentence(make_summary: MakeSummary) -> None:
    page = Page(render_html(make_summary(tightness=100)))
    assert "The front is empty" in page.text
    assert page.sections == ["deploy", "finished", "notes"]


def test_failures_are_listed_with_their_reason(make_summary: MakeSummary) -> None:
    page = Page(render_html(make_summary(all_fail=True)))
    assert "every client ran out of memory" in page.text
    assert "finished" in page.sections


def test_a_study_without_trials_makes_a_page(make_summary: MakeSummary) -> None:
    page = Page(render_html(make_summary(attempts=0)))
    assert "No trial has ended yet" in page.text
    assert page.sections == ["deploy", "notes"]


def test_a_limit_says_which_value_would_have_sufficed(make_summary: MakeSummary) -> None:
    study = parse_study((ROOT / "simulations/studies/digits.toml").read_text(), "digits.toml")
    summary = make_summary()
    one = summary.attempts[1].model_copy(
        update={
            "state": "infeasible",
            "reason": "energy_j",
            "constraints": {"energy_j": 0.234, "coverage": 0.234, "memory_mib": -0.5},
        }
    )
    text = Page(render_html(summary.model_copy(update={"attempts": [one]}), RunInfo(study=study)))
    # The study's limit of 0.6 J, and 0.6 * 1.234 = 0.7404 J rounded up.
    assert "600 mJ on raspberry-pi-zero-2w 1 1 750 mJ 750 mJ" in text.text


def test_a_choice_that_was_never_trained_is_named(make_summary: MakeSummary) -> None:
    study = parse_study((ROOT / "simulations/studies/digits.toml").read_text(), "digits.toml")
    summary = make_summary(choice="cnn")
    trained = sum(attempt.state == "completed" for attempt in summary.attempts)
    page = Page(render_html(summary, RunInfo(study=study)))
    assert f"model = mlp: never trained (0 of {trained})" in page.text
    width = next(each for each in page.data["parameters"] if each["name"] == "width")
    assert width["choices"] == [8, 16, 32, 64]


def test_the_page_loads_nothing(page: Page) -> None:
    for name, attributes in page.elements:
        for key in ("src", "href", "action", "data", "poster"):
            value = attributes.get(key) or ""
            assert not value or value.startswith(("#", "data:")), (name, key, value)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_styles_load_nothing(html: str) -> None:
    for style in re.findall(r"<style>(.*?)</style>", html, re.DOTALL):
        assert "url(" not in style
        assert "@import" not in style


def test_only_the_pages_own_script_may_run(html: str, page: Page) -> None:
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv")) or ""
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert not re.search(r"innerHTML|insertAdjacentHTML|eval\(", html)


def test_hostile_names_stay_text(make_summary: MakeSummary, page: Page) -> None:
    hostile = make_summary(study=HOSTILE, choice=HOSTILE)
    devices = dict(zip([HOSTILE, "b", "c"], hostile.devices.values(), strict=True))
    names = dict(zip(hostile.devices, devices, strict=True))
    hostile = hostile.model_copy(
        update={
            "devices": devices,
            "recommended": {names[d]: choice for d, choice in hostile.recommended.items()},
            "front": [
                point.model_copy(
                    update={"devices": {names[d]: seen for d, seen in point.devices.items()}}
                )
                for point in hostile.front
            ],
            "attempts": [
                a.model_copy(update={"reason": HOSTILE}) if a.state == "failed" else a
                for a in hostile.attempts
            ],
        }
    )
    dangerous = Page(render_html(hostile))
    assert len(dangerous.all("script")) == len(page.all("script"))
    assert not dangerous.all("img")
    assert HOSTILE in unescape(dangerous.text)
    assert not any("<" in script for script in dangerous.scripts if script.startswith("{"))


def test_the_same_summary_gives_the_same_bytes(html: str, summary: Summary) -> None:
    again = Summary.model_validate_json(summary.model_dump_json())
    assert render_html(again) == html


def test_the_notes_tell_predicted_from_measured(page: Page, summary: Summary) -> None:
    assert "Predicted, not measured" in page.text
    assert "the Wilson interval over 360 test samples" in page.text
    measured = Page(render_html(summary.model_copy(update={"simulated": False})))
    assert "Predicted, not measured" not in measured.text


def test_the_notes_count_the_reports_that_were_refused(page: Page, summary: Summary) -> None:
    assert "Reports refused" not in page.text
    counts = {"attic": {"steps": 2, "clipped": 1}, "shed": {"message": 3}}
    refused = Page(render_html(summary.model_copy(update={"refused": counts})))
    assert "Of attic: steps (2), clipped (1); of shed: message (3)." in refused.text


def test_ids_are_used_once(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
