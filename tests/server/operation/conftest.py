"""Three boards, and the coordinator that they are enrolled with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.operation import deploy as commands
from fieldtune.server.operation.exchange import Exchange
from support.deployed import BoardRun
from support.fleet_scene import TYPES, Scene


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator's folder, whose keys take a while to make."""
    path = tmp_path_factory.mktemp("fleet") / "fleet"
    made = CoordinatorFolder.create(path, Settings(hosts=("localhost",)))
    for name in TYPES:
        made.enroll(name)
    return path


@pytest.fixture
def scene(tmp_path: Path, fleet: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    found = Scene(tmp_path, fleet)

    def exchange(start: Callable[[], BoardRun]) -> Exchange:
        return Exchange(found.start, found.time.clock, found.time.sleep)

    monkeypatch.setattr(commands, "Exchange", exchange)
    return found
