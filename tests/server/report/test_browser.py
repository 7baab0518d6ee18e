"""The report in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from fieldtune.server.report import format
from fieldtune.server.report.compare import Run, compare_html
from fieldtune.server.report.html import render_html
from fieldtune.server.report.live import serving
from fieldtune.server.report.page_data import page_data
from fieldtune.server.report.run_info import RunInfo
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary, to_json
from support.browser import browsing, centre, needs_browser, opened, serious
from support.commandline import ROOT

ASSETS = files("fieldtune.server.report") / "assets"
MakeSummary = Callable[..., Summary]
FOUR = ("-macro_f1", "inference_ms", "energy_j", "sent_bytes")
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"

pytestmark = [pytest.mark.system, needs_browser]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture(scope="module")
def summary(make_summary: MakeSummary) -> Summary:
    return make_summary(with_files=True)


@pytest.fixture
def page(browser: Browser, summary: Summary, tmp_path: Path) -> Iterator[Page]:
    with opened(browser, render_html(summary), tmp_path) as found:
        yield found


STATES = {
    "finished": {},
    "running": {"attempts": 12},
    "no trial": {"attempts": 0},
    "one trial": {"attempts": 1},
    "one objective": {"objectives": ("error",)},
    "four objectives": {"objectives": FOUR},
    "without defaults": {"with_defaults": False},
    "earlier version": {},
    "all infeasible": {"tightness": 100},
    "all failed": {"all_fail": True},
}


def as_earlier(summary: Summary) -> Summary:
    """As a version wrote it that had neither alternatives nor usage by trial."""
    bare = {"alternatives": [], "standings": [], "gains": {}, "no_worse": None}
    chosen = {d: c.model_copy(update=bare) for d, c in summary.recommended.items()}
    attempts = [attempt.model_copy(update={"spent": {}}) for attempt in summary.attempts]
    return summary.model_copy(
        update={"recommended": chosen, "attempts": attempts, "decision": None}
    )


@pytest.mark.parametrize("state", STATES)
def test_a_study_in_any_state_is_drawn(
    browser: Browser, make_summary: MakeSummary, state: str, tmp_path: Path
) -> None:
    run = RunInfo("running" if state == "running" else "finished")
    summary = make_summary(**STATES[state])
    html = render_html(as_earlier(summary) if state == "earlier version" else summary, run)
    with opened(browser, html, tmp_path) as page:
        expect(page.locator(".state")).to_contain_text(run.state)
        empty = state in ("no trial", "all infeasible", "all failed")
        assert page.locator("#tradeoff-plot svg").count() == (0 if empty else 1)
        assert page.locator(".card").count() == (0 if empty else 3)
        assert not serious(page)


def test_several_runs_are_drawn_on_one_page(
    browser: Browser, make_summary: MakeSummary, tmp_path: Path
) -> None:
    runs = [
        Run(name, make_summary(seed=seed), RunInfo()) for name, seed in (("one", 7), ("two", 8))
    ]
    with opened(browser, compare_html(runs), tmp_path, width=390, dark=True) as page:
        assert page.locator("#fronts-plot .dot").count() == sum(
            len(run.summary.front) for run in runs
        )
        page.mouse.move(*centre(page, "#fronts-plot .dot"))
        expect(page.locator("#fronts-plot .hover")).to_contain_text("trial")
        page.locator("#choose-horizontal").select_option("energy_j")
        assert page.locator("#attainment-plot .attained").count() == 2
        assert not serious(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_use_the_page_on_any_screen(
    browser: Browser, summary: Summary, width: int, dark: bool, tmp_path: Path
) -> None:
    with opened(browser, render_html(summary), tmp_path, width=width, dark=dark) as page:
        for details in page.locator("details").all():
            details.evaluate("each => { each.open = true; }")
        page.locator("#tradeoff-plot .mark").first.press("Enter")
        assert not serious(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


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


def test_another_choice_changes_card_table_and_command(page: Page, summary: Summary) -> None:
    device = "raspberry-pi-5"
    card = page.locator(f".card[data-device='{device}']")
    other = page.locator(".choice", has=card).locator("input[type=radio]").nth(1)
    trial = other.get_attribute("value")
    assert trial != str(summary.recommended[device].trial)
    other.check()
    expect(card.locator(".trial")).to_have_text(f"trial {trial}")
    expect(card.locator("code")).to_contain_text(f"--device {device} --trial {trial} --out")
    expect(page.locator("#deploy-rows")).to_contain_text(f"trial-{trial}.tflite")
    page.locator("#back").click()
    expect(card.locator(".trial")).to_have_text(f"trial {summary.recommended[device].trial}")
    expect(page.locator("#deploy-rows")).not_to_contain_text(f"trial-{trial}.tflite")


def test_the_table_drawn_after_a_change_is_the_one_that_was_written(page: Page) -> None:
    def text() -> str:
        return " ".join(page.locator("#deploy-rows").inner_text().split())

    before = text()
    radio = page.locator(".others input[type=radio]")
    radio.nth(1).check()
    assert text() != before
    page.locator(".others input[type=radio]").nth(0).check()
    assert text() == before


def slid(page: Page, name: str, value: float) -> None:
    """Move a slider."""
    page.locator(f"#{name}").evaluate(
        "(each, value) => { each.value = value; each.dispatchEvent(new Event('input')); }", value
    )


def chosen(page: Page) -> dict[str, int]:
    """The trial on each card."""
    return {
        str(card.get_attribute("data-device")): int(
            card.locator(".trial").inner_text().removeprefix("trial ")
        )
        for card in page.locator(".card[data-device]").all()
    }


SLIDERS: list[dict[str, float]] = [
    {},
    {"weight-error": 4},
    {"weight-energy_j": 0},
    {"weight-error": 0.25, "weight-energy_j": 2, "weight-inference_ms": 1.5},
    {"weight-energy_j": 0, "weight-inference_ms": 0},
    {"confidence": 0.5, "weight-error": 0},
    {"limit-inference_ms": 40},
    {"limit-energy_j": 15, "weight-error": 3},
    {"limit-energy_j": 30, "limit-inference_ms": 20},
]


@pytest.mark.parametrize("moved", SLIDERS)
def test_sliders_choose_what_the_rule_chooses_with_the_lines_that_they_print(
    page: Page,
    summary: Summary,
    decide_again: Callable[[Summary, str], dict[str, int]],
    moved: dict[str, float],
) -> None:
    page.locator("#choose-limited").select_option("raspberry-pi-zero-2w")
    for name, value in moved.items():
        slid(page, name, value)
    printed = page.locator("#priorities-toml pre")
    lines = printed.inner_text() if printed.count() else ""
    assert chosen(page) == decide_again(summary, lines)
    assert bool(lines) == bool(moved)
    for name in moved:
        assert name.rpartition("-")[2] in lines
    if moved:
        page.get_by_role("button", name="Reset").click()
        assert chosen(page) == {device: c.trial for device, c in summary.recommended.items()}


def test_the_keyboard_moves_a_slider_and_the_choice_follows(page: Page) -> None:
    before = chosen(page)
    page.locator("#weight-energy_j").focus()
    page.keyboard.press("Home")
    expect(page.locator("#priorities-toml pre")).to_contain_text("weights = { energy_j = 0 }")
    assert chosen(page) != before
    expect(page.locator("#priorities-outcome")).to_contain_text("instead of")


def test_figures_are_written_as_in_the_terminal(browser: Browser, summary: Summary) -> None:
    rng = np.random.default_rng(0)
    values = [
        *(10 ** rng.uniform(-7, 7, 400)).tolist(),
        *(0.0, 1.0, 0.125, 2.25, 12.5, 0.0225, 99.95, 999.7, 1e6, 1e-4, 0.1, 1.996, 2.5, 0.25),
    ]
    names = ["error", "inference_ms", "energy_j", "file_bytes", "loss"]
    script = (
        "([text, data, names, values]) => new Function('data', 'names', 'values', text + "
        "'; return [values.map((v) => number(v)), values.map(setting), "
        "values.map((v) => change(v, 0.7)), names.map((n) => values.map((v) => withUnit(n, v)))]')"
        "(data, names, values)"
    )
    measures = {"measures": page_data(summary, None)["measures"]}
    text = (ASSETS / "js/format.js").read_text()
    page = browser.new_page()
    numbers, settings, changes, figures = page.evaluate(script, [text, measures, names, values])
    page.close()
    assert numbers == [format.number(value) for value in values]
    assert changes == [format.change(value, 0.7) for value in values]
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
    # 40 of 140 samples are of the most frequent class.
    expect(page.locator("#classes-baseline")).to_contain_text("(2) would be wrong on 71.4 %")


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


def test_pointing_at_a_line_names_its_trial(page: Page) -> None:
    page.mouse.move(*centre(page, "#parallel-plot .axis", 1))
    lines = page.locator("#parallel-plot .line.lit")
    for y in range(-150, 150, 10):
        x, middle = centre(page, "#parallel-plot .axis", 1)
        page.mouse.move(x + 20, middle + y)
        if lines.get_attribute("d"):
            break
    expect(page.locator("#parallel-plot .hover")).to_contain_text("Trial")


def test_the_served_page_loads_itself_anew_and_keeps_what_was_chosen(
    browser: Browser, make_summary: MakeSummary, tmp_path: Path
) -> None:
    study = (ROOT / "simulations/studies/digits.toml").read_text()
    with RunFolder(tmp_path / "run", study) as folder, serving(folder.path) as address:
        earlier = make_summary(attempts=20).model_copy(update={"state": "running"})
        folder.write("pareto.json", to_json(earlier))
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        expect(page.locator(".state")).to_contain_text("running, ")
        page.locator("#weight-error").evaluate(
            "each => { each.value = 3; each.dispatchEvent(new Event('input')); }"
        )
        page.locator("#tradeoff-plot").scroll_into_view_if_needed()
        page.locator("#tradeoff-plot .mark:has(.dot)").first.press("Enter")
        pinned = page.locator("#pinned thead th").nth(1).inner_text()
        folder.write("pareto.json", to_json(make_summary(attempts=40)))
        expect(page.locator(".state")).to_contain_text("finished, ", timeout=30_000)
        expect(page.locator("#priorities-toml pre")).to_contain_text("error = 3")
        page.locator("#tradeoff-plot").scroll_into_view_if_needed()
        expect(page.locator("#pinned thead")).to_contain_text(pinned)
        assert not said
        page.close()


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


def test_printed_it_is_one_sheet_with_the_whole_picture(page: Page) -> None:
    page.emulate_media(media="print")
    sheet = page.pdf(format="A4", prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", sheet)) == 1
    shown = page.locator("main > section:visible").evaluate_all("all => all.map(e => e.id)")
    assert shown == ["deploy", "tradeoff", "notes"]


def test_the_folder_in_the_commands_is_the_reports_own(
    browser: Browser, summary: Summary, tmp_path: Path
) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    with opened(browser, render_html(summary), folder) as page:
        commands = page.locator(".command code").all_inner_texts()
        assert commands
        assert all(f"fieldtune export '{folder}' --device" in each for each in commands)


def test_a_hostile_name_runs_nothing(
    browser: Browser, make_summary: MakeSummary, tmp_path: Path
) -> None:
    html = render_html(make_summary(study=HOSTILE, choice=HOSTILE))
    with opened(browser, html, tmp_path) as page:
        page.locator("#tradeoff-plot .mark").first.press("Enter")
        assert HOSTILE in page.title()
        assert page.locator("img").count() == 0


def test_without_scripts_the_table_of_files_is_there(
    browser: Browser, summary: Summary, tmp_path: Path
) -> None:
    with opened(browser, render_html(summary), tmp_path, scripts=False) as page:
        for choice in summary.recommended.values():
            expect(page.locator("#deploy-rows")).to_contain_text(f"trial-{choice.trial}.tflite")
