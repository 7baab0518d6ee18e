"""Figures, clients, classes and hyperparameters on the page, in a real browser."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from fieldtune.server.report import format
from fieldtune.server.report.page_data import page_data
from fieldtune.server.results.schema import Summary
from support.browser import centre, needs_browser

ASSETS = files("fieldtune.server.report") / "assets"

pytestmark = [pytest.mark.system, needs_browser]


def test_each_axis_and_each_figure_says_how_it_is_known(page: Page) -> None:
    page.locator("#choose-vertical").select_option("error")
    for place, kinds in {
        "#tradeoff-plot": {"predicted", "simulated"},
        "#parallel-plot": {"predicted", "simulated"},
        "#clients-plot": {"simulated"},
        "#learning-plot": {"simulated"},
        "#slices-plot": {"simulated"},
        "#attainment-plot": {"simulated, predicted"},
    }.items():
        page.locator(place).scroll_into_view_if_needed()
        expect(page.locator(f"{place} .kind").first).to_be_attached()
        assert set(page.locator(f"{place} .kind").all_text_contents()) == kinds, place
    page.locator("#tradeoff-plot .mark").first.press("Enter")
    badges = page.locator("#pinned tbody th .badge").all_text_contents()
    assert set(badges) == {"predicted", "simulated"}
    assert badges[0] == "simulated"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_title_of_an_axis_is_within_its_picture(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("#slices-plot").scroll_into_view_if_needed()
    page.locator("#choose-slices").select_option("energy_j")
    expect(page.locator("#slices-plot .title").first).to_be_attached()
    cut = page.locator("svg .title").evaluate_all(
        """titles => titles.filter((title) => {
          const text = title.getBoundingClientRect();
          const box = title.closest("svg").getBoundingClientRect();
          return text.top < box.top || text.bottom > box.bottom;
        }).map((title) => title.textContent)"""
    )
    assert cut == []


def test_figures_are_written_as_in_the_terminal(browser: Browser, summary: Summary) -> None:
    rng = np.random.default_rng(0)
    values = [
        *(10 ** rng.uniform(-7, 7, 400)).tolist(),
        *(0.0, 1.0, 0.125, 2.25, 12.5, 0.0225, 99.95, 999.7, 1e6, 1e-4, 0.1, 1.996, 2.5, 0.25),
        *(0.9996, 1 - 1e-9),
    ]
    names = ["error", "inference_ms", "energy_j", "file_bytes", "loss"]
    script = (
        "([text, data, names, values]) => new Function('data', 'names', 'values', text + "
        "'; return [values.map((v) => number(v)), values.map(setting), "
        "values.map((v) => change(v, 0.7)), names.map((n) => values.map((v) => withUnit(n, v))), "
        "values.map(whole), [0, 1, 2, 3, 4].map((d) => values.map((v) => number(v, d > 1, d)))]')"
        "(data, names, values)"
    )
    measures = {"measures": page_data(summary, None)["measures"]}
    text = (ASSETS / "js/format.js").read_text()
    page = browser.new_page()
    numbers, settings, changes, figures, percent, digits = page.evaluate(
        script, [text, measures, names, values]
    )
    page.close()
    assert numbers == [format.number(value) for value in values]
    assert changes == [format.change(value, 0.7) for value in values]
    assert percent == [format.whole(value) for value in values]
    for more, written in enumerate(digits):
        assert written == [format.number(v, percent=more > 1, more=more) for v in values]
    whole = [int(value) if value.is_integer() else value for value in values]
    assert settings == [format.setting(value) for value in whole]
    for name, written in zip(names, figures, strict=True):
        assert written == [format.figure(name, value) for value in values]


def test_who_is_worse_off_is_shown_client_by_client_and_class_by_class(
    page: Page, summary: Summary
) -> None:
    rows = page.locator("#clients-worst tr")
    chosen = summary.recommended["raspberry-pi-5"].trial
    point = next(point for point in summary.front if point.trial == chosen)
    errors = point.variants["fp32"].client_errors["raspberry-pi-5"]
    row = rows.filter(has_text="raspberry-pi-5").first
    worst = sum(errors[-2:]) / 2  # the worst tenth of 20 clients
    expect(row).to_contain_text(f"trial {chosen}")
    assert f"{format.number(100 * worst, percent=True)} %" in row.inner_text()
    drawn = page.locator("#clients-plot .client").evaluate_all(
        "all => all.map(e => e.getAttribute('d').split('M').length - 1)"
    )
    assert sorted(drawn) == [20, 20, 40, 40, 40, 40]  # and the defaults below each
    expect(page.locator("#classes-rows tr")).to_have_count(4)
    shown = {choice.trial for choice in summary.recommended.values()} | {0}  # the defaults
    expect(page.locator("#learning-plot .attained")).to_have_count(len(shown))
    assert point.variants["fp32"].classes is not None
    matrix = point.variants["fp32"].classes.confusion
    page.locator("#choose-classes").select_option(str(chosen))
    cells = page.locator("#confusion-rows td").all_inner_texts()
    assert cells == [str(count) for row in matrix for count in row]
    wrong = max(row[3] for row in matrix[:3])
    expect(page.locator("#confusion-note")).to_contain_text(f"for down ({wrong} of ")
    expect(page.locator("#confusion-note")).to_contain_text("of the clients that report it")
    # 40 of 140 samples are of the most frequent class.
    expect(page.locator("#classes-baseline")).to_contain_text("(up) would be wrong on 71.4 %")


def test_brushing_an_axis_selects_trials_by_pointer_and_by_keyboard(page: Page) -> None:
    count = page.locator("#parallel-count")
    axis = page.locator("#parallel-plot .axis").nth(3)
    axis.scroll_into_view_if_needed()
    box = axis.locator(".base").bounding_box()
    assert box is not None
    page.mouse.move(box["x"], box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"], box["y"] + box["height"] / 2)
    page.mouse.up()
    expect(count).to_have_text(re.compile(r"\d+ of \d+ trials selected"))
    by_pointer = count.inner_text()
    axis.focus()
    page.keyboard.press("ArrowDown")
    expect(count).not_to_have_text(by_pointer)
    page.keyboard.press("Escape")
    expect(count).to_contain_text("drag along an axis")


def test_names_of_axes_lie_within_the_picture_and_apart(page: Page) -> None:
    page.locator("#parallel-plot").scroll_into_view_if_needed()
    boxes = [each.bounding_box() for each in page.locator("#parallel-plot .title").all()]
    around = page.locator("#parallel-plot svg").bounding_box()
    assert around is not None
    places = [(b["x"], b["y"], b["x"] + b["width"]) for b in boxes if b]
    assert len(places) == len(boxes)
    for index, (left, top, right) in enumerate(places):
        assert around["x"] <= left
        assert right <= around["x"] + around["width"]
        for other in places[index + 1 :]:
            is_same_line = abs(top - other[1]) < 6
            assert not is_same_line or right <= other[0] or other[2] <= left


def test_pointing_at_a_line_names_its_trial(page: Page) -> None:
    page.mouse.move(*centre(page, "#parallel-plot .axis", 1))
    lines = page.locator("#parallel-plot .line.lit")
    for y in range(-150, 150, 10):
        x, middle = centre(page, "#parallel-plot .axis", 1)
        page.mouse.move(x + 20, middle + y)
        if lines.get_attribute("d"):
            break
    expect(page.locator("#parallel-plot .hover")).to_contain_text("Trial")


def test_a_heading_sorts_the_front_and_keeps_the_defaults_last(
    page: Page, summary: Summary
) -> None:
    page.get_by_text("The front as a table").click()
    page.locator("table.sortable thead button", has_text="Energy").click()
    keys = page.locator("table.sortable tbody th").evaluate_all(
        "all => all.map(e => e.dataset.key)"
    )
    cheapest = sorted(summary.front, key=lambda point: point.objectives["energy_j"].value)
    assert summary.defaults is not None
    assert [int(key) for key in keys] == [p.trial for p in cheapest] + [summary.defaults.trial]
