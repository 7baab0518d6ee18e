"""The report in Debian's Chromium, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)

needs_browser = pytest.mark.skipif(
    PROGRAM is None,
    reason="NO BROWSER: nobody has looked whether the report draws. Install chromium "
    "(on Debian: apt-get install chromium)",
)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless browser, closed afterwards."""
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=PROGRAM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser,
    html: str,
    folder: Path,
    *,
    width: int = 1280,
    dark: bool = False,
    scripts: bool = True,
) -> Iterator[Page]:
    """The page, drawn; at the end its console must have been silent and it has fetched nothing."""
    file = folder / "report.html"
    file.write_text(html, "utf-8")
    with browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        offline=True,
        java_script_enabled=scripts,
        reduced_motion="reduce",
    ) as context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.goto(file.as_uri())
        if scripts:  # pictures wait until they come near the window
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
        yield page
        assert said == [file.as_uri()]


def serious(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds that keeps people from using the page."""
    found = Axe().run(page).response["violations"]
    return [
        {"rule": each["id"], "where": [node["target"] for node in each["nodes"]][:3]}
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def centre(page: Page, selector: str, index: int = 0) -> tuple[float, float]:
    """The middle of an element, in pixels of the window, once it is in it."""
    element = page.locator(selector).nth(index)
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
