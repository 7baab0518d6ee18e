"""A coordinator's folder, three boards whose real clients answer in this process, and a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fieldtune.client.node.signatures import Signer
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.operation import deploy as commands
from fieldtune.server.operation.rollouts import Rollout
from support.deployed import Board, BoardRun, old_run
from support.scripted_devices import Time

TYPES = {"pi-a": "raspberry-pi-4b", "pi-b": "raspberry-pi-5", "pi-c": "raspberry-pi-5"}


class Scene:
    """A coordinator's folder with three boards, and a run of old models to deploy."""

    def __init__(self, folder: Path, fleet: Path) -> None:
        shutil.copytree(fleet, folder / "fleet")
        self.folder = CoordinatorFolder(folder / "fleet")
        self.authority = Signer(self.folder.authority_key)
        self.run = old_run(folder)
        self.notes: list[str] = []
        self.time = Time()
        pair = type("Pair", (), {"certificate": self.folder.ca_certificate})
        self.boards = {}
        for name, profile in TYPES.items():
            self.boards[name] = Board(name, folder / name, pair, profile)  # type: ignore[arg-type]
        self.link = BoardRun(list(self.boards.values()))

    def start(self) -> BoardRun:
        return self.link

    def deploy(self, **options: Any) -> Rollout:
        given: dict[str, Any] = {
            "chosen": (), "variant": "fp32", "canary": (None, None), "force": False, "wait": False,
        }  # fmt: skip
        return commands.deploy(self.folder, self.run, notes=self.notes.append, **(given | options))

    def go_on(self) -> list[Rollout]:
        return commands.deliver_waiting(self.folder, wait=False, notes=self.notes.append)

    def roll_back(self, *chosen: str) -> Rollout:
        return commands.roll_back(self.folder, chosen=chosen, wait=False, notes=self.notes.append)

    def trials(self) -> list[int | None]:
        return [board.trial for board in self.boards.values()]


def states(rollout: Rollout) -> dict[str, str]:
    return {name: member.state for name, member in rollout.devices.items()}
