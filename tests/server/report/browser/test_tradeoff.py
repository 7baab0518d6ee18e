"""The picture of the trade-off in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fieldtune.server.report.html import render_html
from fieldtune.server.results.schema import Summary
from support.browser import centre, needs_browser, opened

MakeSummary = Callable[..., Summary]

pytestmark = [pytest.mark.system, needs_browser]


def views(page: Page) -> Iterator[None]:
    """Show each pair of objectives after the other."""
    vertical, horizontal = page.locator("#choose-vertical"), page.locator("#choose-horizontal")
    if not vertical.count():
        yield
        return
    names = [each.get_attribute("value") for each in vertical.locator("option").all()]
    page.locator("#choose-extent").select_option("all")
    for y in names:
        for x in names:
            if x != y:
                vertical.select_option(y)
                horizontal.select_option(x)
                yield


def with_worse_neighbours(summary: Summary) -> Summary:
    """Beside each point of the front, a dominated trial that differs by less than its marker."""
    by_trial = {attempt.trial: attempt for attempt in summary.attempts}
    worse = [
        by_trial[point.trial].model_copy(
            update={
                "trial": 1000 + point.trial,
                "objectives": {name: 1.001 * i.value for name, i in point.objectives.items()},
            }
        )
        for point in summary.front
    ]
    return summary.model_copy(update={"attempts": [*summary.attempts, *worse]})


@pytest.mark.parametrize("objectives", [("error",), ("error", "inference_ms", "energy_j")])
def test_pointing_at_a_point_of_the_front_names_its_trial(
    browser: Browser, make_summary: MakeSummary, objectives: tuple[str, ...], tmp_path: Path
) -> None:
    summary = with_worse_neighbours(make_summary(objectives))
    front = {point.trial for point in summary.front}
    pointed = 0
    with opened(browser, render_html(summary), tmp_path) as page:
        for _ in views(page):
            marks = page.locator("#tradeoff-plot .mark:has(.dot)")
            trials = marks.evaluate_all("all => all.map(e => Number(e.dataset.trial))")
            centres = {
                trial: centre(page, "#tradeoff-plot .dot", i) for i, trial in enumerate(trials)
            }
            assert set(centres) == front
            for trial, at in centres.items():
                page.mouse.move(*at)
                label = page.locator("#tradeoff-plot .hover").inner_text()
                near = [t for t, other in centres.items() if abs(other[0] - at[0]) < 2]
                named = re.findall(r"[Tt]rial (\d+)", label)
                assert str(trial) in named
                assert named == [str(trial)] or len(near) > 1
                pointed += 1
    assert pointed == len(front) * max(1, len(objectives) * (len(objectives) - 1))


def test_a_dominated_trial_that_lies_free_is_named_too(page: Page, summary: Summary) -> None:
    page.locator("#choose-extent").select_option("all")
    centre(page, "#tradeoff-plot svg")
    frame = page.locator("#tradeoff-plot svg").bounding_box()
    path = page.locator("#tradeoff-plot .dominated").get_attribute("d") or ""
    assert frame is not None
    named = set()
    for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", path):
        page.mouse.move(frame["x"] + float(x), frame["y"] + float(y))
        named |= set(re.findall(r"^Trial (\d+)", page.locator(".hover").inner_text()))
    assert len(named - {str(point.trial) for point in summary.front}) > 10


def test_a_click_pins_up_to_three_points_and_compares_them(page: Page) -> None:
    marks = page.locator("#tradeoff-plot .mark:has(.dot)")
    trials = [mark.get_attribute("data-trial") for mark in marks.all()][:4]
    for trial in trials:
        page.mouse.click(*centre(page, f"#tradeoff-plot .mark[data-trial='{trial}'] .dot"))
    heads = page.locator("#pinned thead th").all_inner_texts()
    assert heads[1:] == [f"trial {trial}" for trial in trials[1:]]
    some = page.locator("#pinned tbody tr").count()
    page.locator("#pinned input").uncheck()
    assert page.locator("#pinned tbody tr").count() > some
    assert page.locator("#tradeoff-plot .bars path").count() == 3
    page.locator("#pinned button").click()
    expect(page.locator("#pinned")).to_contain_text("Click a point to pin it")


def test_the_picture_is_usable_by_keyboard(page: Page) -> None:
    page.locator("#tradeoff-plot .mark[tabindex='0']").focus()
    first = page.evaluate("document.activeElement.dataset.trial")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.trial")
    assert first != second
    expect(page.locator(".hover")).to_contain_text(f"rial {second}")
    page.keyboard.press("Enter")
    assert f"trial {second}" in page.locator("#pinned thead").inner_text()
