"""The reader's choices in a real browser: cards, sliders, commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fieldtune.server.report.html import render_html
from fieldtune.server.results.schema import Summary
from support.browser import needs_browser, opened

pytestmark = [pytest.mark.system, needs_browser]


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


def test_a_price_says_how_each_figure_is_known_and_agrees_with_the_rule(
    page: Page, summary: Summary
) -> None:
    """What counts as within noise is said so, and anything else has its difference."""
    device = "raspberry-pi-5"
    card = page.locator(f".card[data-device='{device}']")
    rows = page.locator(".choice", has=card).locator(".others label")
    for other in summary.recommended[device].alternatives:
        row = rows.filter(has=page.locator(f"input[value='{other.trial}']"))
        prices = row.locator(".whole").all_inner_texts()
        sure = {name for name, gain in other.gains.items() if not gain.within_noise}
        assert len(prices) == len(sure)
        assert all(text.endswith(("simulated", "predicted")) for text in prices)
        assert "trained" in row.inner_text()


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


SLIDERS: list[dict[str, float | str]] = [
    {},
    {"weight-error": 4},
    {"weight-energy_j": 0},
    {"weight-error": 0.25, "weight-energy_j": 2, "weight-inference_ms": 1.5},
    {"weight-energy_j": 0, "weight-inference_ms": 0},
    {"confidence": 0.5, "weight-error": 0},
    {"limit-inference_ms": 40},
    {"limit-energy_j": 15, "weight-error": 3},
    {"limit-energy_j": 30, "limit-inference_ms": 20},
    {"limit-memory_mib": 10},
    {"limit-memory_mib": 40, "weight-energy_j": 0},
    {"limit-storage_mib": 30, "confidence": 0.99},
    {"limit-round_s": 5, "weight-error": 2},
    {"on": "raspberry-pi-5", "weight-energy_j": 0},
    {"weight-error": 3, "on": "raspberry-pi-zero-2w", "weight-energy_j": 4, "weight-error ": 0.5},
]


@pytest.mark.parametrize("coverage", [0.5, 0.9])  # what too few can train is left for all types
def test_sliders_choose_what_the_rule_chooses_with_the_lines_that_they_print(
    browser: Browser,
    summary: Summary,
    coverage: float,
    decide_again: Callable[[Summary, str], dict[str, int]],
    tmp_path: Path,
) -> None:
    summary = summary.model_copy(update={"coverage": coverage})
    as_before = {device: c.trial for device, c in summary.recommended.items()}
    dominated = {point.trial for point in summary.dominated}
    seen: set[int] = set()
    with opened(browser, render_html(summary), tmp_path) as page:
        for moved in SLIDERS:
            page.locator("#choose-limited").select_option("raspberry-pi-zero-2w")
            page.locator("#choose-weighed").select_option("")
            for name, value in moved.items():
                if isinstance(value, str):
                    page.locator("#choose-weighed").select_option(value)
                else:
                    slid(page, name.strip(), value)
            printed = page.locator("#priorities-toml pre")
            lines = printed.inner_text() if printed.count() else ""
            found = decide_again(summary, lines)
            assert chosen(page) == as_before | found
            told = page.locator("#priorities-outcome li", has_text="no stored trial keeps")
            assert told.count() == len(as_before) - len(found)
            assert bool(lines) == bool(moved)
            for name, value in moved.items():
                part = value if isinstance(value, str) else name.strip().partition("-")[2]
                assert part in lines or name == "confidence"
            if moved:
                page.get_by_role("button", name="Reset").click()
                assert chosen(page) == as_before
            seen |= {*found.values()}
    assert seen & dominated or coverage < 0.9


def test_what_the_sliders_choose_has_its_price(page: Page, summary: Summary) -> None:
    before = chosen(page)
    slid(page, "weight-error", 4)
    slid(page, "weight-energy_j", 0)
    now = chosen(page)
    device = next(name for name in now if now[name] != before[name])
    line = page.locator("#priorities-outcome li", has_text=device)
    price = r"[+−][0-9.]+ (points of error simulated|\S+ of .* predicted)"  # noqa: RUF001
    expect(line).to_have_text(
        re.compile(f"{device}: trial {now[device]} instead of {before[device]}: {price}")
    )


def test_the_keyboard_moves_a_slider_and_the_choice_follows(page: Page) -> None:
    before = chosen(page)
    page.locator("#weight-energy_j").focus()
    page.keyboard.press("Home")
    expect(page.locator("#priorities-toml pre")).to_contain_text("weights = { energy_j = 0 }")
    assert chosen(page) != before
    expect(page.locator("#priorities-outcome")).to_contain_text("instead of")


def test_the_folder_in_the_commands_is_the_reports_own(
    browser: Browser, summary: Summary, tmp_path: Path
) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    with opened(browser, render_html(summary), folder) as page:
        commands = page.locator(".command code").all_inner_texts()
        assert commands
        assert all(f"fieldtune export '{folder}' --device" in each for each in commands)
