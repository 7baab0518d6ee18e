"""Devices that are connected to SuperLink's own state, and a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.calls_scene import Scene
from support.in_process_superlink import InProcessSuperLink


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> InProcessSuperLink:
    return InProcessSuperLink(tmp_path_factory.mktemp("superlink"))


@pytest.fixture
def scene(superlink: InProcessSuperLink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(superlink, monkeypatch, devices=3)
    yield made
    if not made.run._closing.is_set():
        made.run.close()
