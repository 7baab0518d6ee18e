"""The page in a real browser: in every state of a study, for every reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fieldtune.server.report.compare import Run, compare_html
from fieldtune.server.report.html import render_html
from fieldtune.server.report.live import serving
from fieldtune.server.report.run_info import RunInfo
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.study.load import parse_study
from support.browser import centre, needs_browser, opened, serious
from support.commandline import ROOT

MakeSummary = Callable[..., Summary]

FOUR = ("-macro_f1", "inference_ms", "energy_j", "sent_bytes")

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"

pytestmark = [pytest.mark.system, needs_browser]

STATES = {
    "finished": {},
    "running": {"attempts": 12},
    "interrupted": {"attempts": 12},
    "no trial": {"attempts": 0},
    "one trial": {"attempts": 1},
    "one objective": {"objectives": ("error",)},
    "four objectives": {"objectives": FOUR},
    "without defaults": {"with_defaults": False},
    "earlier version": {},
    "all infeasible": {"tightness": 100},
    "all failed": {"all_fail": True},
    "2,000 trials": {"attempts": 2000},
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
    run = RunInfo(state if state in ("running", "interrupted") else "finished")
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


def test_on_a_phone_figures_keep_their_badges_and_headings_a_few_lines(
    browser: Browser, make_summary: MakeSummary, tmp_path: Path
) -> None:
    summary = make_summary(with_files=True)
    study = parse_study((ROOT / "simulations/studies/digits.toml").read_text(), "digits.toml")
    html = render_html(summary, RunInfo(study=study))
    with opened(browser, html, tmp_path, width=390) as page:
        first = page.locator("#deploy-rows .number").first
        labels = first.evaluate("each => getComputedStyle(each, '::before').content")
        assert "simulated" in labels
        tall = page.locator("thead").evaluate_all("all => all.map(each => each.offsetHeight)")
        assert len(tall) > 5
        assert max(tall) < 100


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


def test_printed_it_is_one_sheet_with_the_whole_picture(page: Page) -> None:
    page.emulate_media(media="print")
    sheet = page.pdf(format="A4", prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", sheet)) == 1
    shown = page.locator("main > section:visible").evaluate_all("all => all.map(e => e.id)")
    assert shown == ["deploy", "tradeoff", "notes"]


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
