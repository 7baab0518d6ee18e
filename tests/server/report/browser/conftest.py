"""A browser, and the page of a realistic study in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from fieldtune.server.report.html import render_html
from fieldtune.server.results.schema import Summary
from support.browser import browsing, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture(scope="module")
def summary(make_summary: Callable[..., Summary]) -> Summary:
    return make_summary(with_files=True)


@pytest.fixture
def page(browser: Browser, summary: Summary, tmp_path: Path) -> Iterator[Page]:
    with opened(browser, render_html(summary), tmp_path) as found:
        yield found
