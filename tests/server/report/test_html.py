"""The report as one HTML file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from fieldtune.server.report.html import render_html
from fieldtune.server.results.schema import Summary

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
    def figures(self) -> dict[str, list[dict[str, Any]]]:
        return json.loads(next(s for s in self.scripts if s.startswith('{"') or s == "{}"))


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
    for device in summary.devices:
        assert page.text.count(device) > len(summary.front)  # its card, and a row of costs a point


def test_each_card_says_why_and_how_to_export(page: Page, summary: Summary) -> None:
    for device, choice in summary.recommended.items():
        assert choice.why[1:] in page.text
        assert f"--device {device} --out model.tflite" in page.text


def test_each_limit_of_a_recommendation_has_a_bar(page: Page, summary: Summary) -> None:
    points = {point.trial: point for point in summary.front}
    expected = sum(
        len(points[choice.trial].devices[device].slack)
        for device, choice in summary.recommended.items()
    )
    assert len(page.all("i")) == expected


@pytest.mark.parametrize("with_defaults", [True, False])
@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_any_objectives_make_a_page(
    make_summary: MakeSummary, objectives: tuple[str, ...], with_defaults: bool
) -> None:
    page = Page(render_html(make_summary(objectives, with_defaults=with_defaults)))
    pairs = len(objectives) * (len(objectives) - 1) // 2
    assert len(page.figures["front"]) == max(pairs, 1)
    assert len(page.all("option")) == (pairs if pairs > 1 else 0)
    assert {"parallel", "progress", "limits", "overshoot"} <= set(page.figures)


def test_every_picture_has_its_place_and_both_themes(page: Page) -> None:
    places = {attributes.get("id") for attributes in page.all("div")}
    for name, views in page.figures.items():
        assert f"plot-{name}" in places
        assert all(set(view) == {"light", "dark"} for view in views)


def test_an_empty_front_leaves_the_limits_and_a_sentence(make_summary: MakeSummary) -> None:
    page = Page(render_html(make_summary(tightness=100)))
    assert "The front is empty" in page.text
    assert set(page.figures) == {"limits", "overshoot"}


def test_a_study_without_trials_makes_a_page(make_summary: MakeSummary) -> None:
    page = Page(render_html(make_summary(attempts=0)))
    assert "No trial has ended yet" in page.text
    assert page.figures == {}


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


def test_no_button_sends_the_study_anywhere(page: Page) -> None:
    assert "showSendToCloud: false" in page.scripts[-1]


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
    texts = json.dumps(dangerous.figures)
    assert "<script" not in texts
    assert "<img" not in texts


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
    failures = {"implausible": 2, "no_reply": 3}
    refused = Page(render_html(summary.model_copy(update={"failures": failures})))
    assert "2 reports of clients held numbers that cannot be true" in refused.text


def test_trials_over_a_limit_are_crosses_in_the_front_picture(make_summary: MakeSummary) -> None:
    summary = make_summary()
    over = [
        a.model_copy(update={"constraints": {"memory_mib": 0.3}}) if a.trial == 1 else a
        for a in summary.attempts
    ]
    page = Page(render_html(summary.model_copy(update={"attempts": over})))
    names = [trace.get("name") for trace in page.figures["front"][0]["light"]["data"]]
    assert "over a limit" in names


def test_ids_are_used_once(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
