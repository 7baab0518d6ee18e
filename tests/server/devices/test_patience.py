"""How long a call waits for a SuperLink that does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.devices.runtime_client import GIVE_UP_S, Reconnecting
from fieldtune.server.operation import watch


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(tmp_path / "fleet", Settings(hosts=("coordinator.local",)))


def test_who_asks_again_and_again_gives_up_with_the_same_sentence(
    folder: CoordinatorFolder,
) -> None:
    notes: list[str] = []
    reconnecting = Reconnecting(folder, notes.append, notes.append, patience_s=0.0)

    def away() -> None:
        raise httpx.ConnectError("refused")

    for _ in range(2):
        with pytest.raises(FleetError, match=r"^SuperLink does not answer: is .* running\?$"):
            reconnecting.invoker.invoke(away)
    assert notes == []


def test_a_watch_does_not_keep_the_devices_while_superlink_is_away(
    folder: CoordinatorFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: list[float] = []

    def run(*_: Any, patience_s: float = GIVE_UP_S) -> None:
        patience.append(patience_s)
        raise FleetError("SuperLink does not answer")

    monkeypatch.setattr(watch, "SuperLinkRun", run)
    assert not watch.Watch(folder, print).step()
    assert patience == [10.0]
