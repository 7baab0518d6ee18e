"""What the simulator's fleet does about workers that end."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.federation.fleet import Addressed
from fieldtune.simulations.fleet.fleet import SimulatedFleet
from fieldtune.simulations.fleet.frames import pack
from fieldtune.simulations.fleet.plan import FleetPlan
from support.timeline_contract import request


class EndsWhenAsked:
    """A worker that loads its data, and ends at its first request."""

    def __init__(self, module: str, **options: Any) -> None:
        self.connection, self._theirs = Pipe()
        self.process = self
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._theirs:
            self._theirs.recv_bytes()
            self._theirs.send_bytes(pack({"facts": {}}))
            self._theirs.recv_bytes()

    def kill(self) -> None:
        pass

    def close(self) -> None:
        self.connection.close()
        self._thread.join()


def test_a_request_that_ends_workers_is_not_asked_for_ever(tmp_path: Path) -> None:
    notes: list[str] = []
    plan = FleetPlan("digits", None, 1.0, 0.2, 1, {"raspberry-pi-5": 1.0}, 0)
    with SimulatedFleet(
        plan, workers=1, import_path=[], log=tmp_path / "log", notes=notes.append,
        spawn=EndsWhenAsked, replaced=3,
    ) as fleet:  # fmt: skip
        fleet.send([Addressed(0, request(), b"model", 1.0)])
        with pytest.raises(FleetError, match="ended unexpectedly"):
            fleet.receive(20.0)
    assert len(notes) == 3
