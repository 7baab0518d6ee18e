"""Rollouts in the coordinator's folder: who is to get which model, and who has it.

``rollouts/NUMBER.json`` is one rollout or rollback, rewritten at each step, so that it goes on
after whatever has stopped it. ``rollouts/models/`` holds the models by their SHA-256. A device that
was off gets what is meant for it when it is back: that is a member in the state ``waiting``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fieldtune.client.contract.deployment import Card, DeployReport
from fieldtune.profiles.common.errors import DeploymentError, StorageError
from fieldtune.profiles.common.files import write_atomically, writing
from fieldtune.profiles.common.validation import first_error

State = Literal[
    "waiting",  # it has not answered yet
    "switched",  # it runs the model
    "unchanged",  # it ran the model before
    "kept",  # it goes on with what it had
    "left out",  # there is no model for it, or its client is too old
    "superseded",  # a later rollout or rollback is for it
    "stopped",  # the rollout was stopped by a device of the canary
]
_KEPT = 50
"""Rollouts that are kept."""


class Member(BaseModel):
    """A device in a rollout."""

    model_config = ConfigDict(frozen=True)

    state: State = "waiting"
    why: str = ""
    report: DeployReport | None = None
    at: float = 0.0
    """Unix time of the last change."""


class Rollout(BaseModel):
    """Models for devices, or the way back to the ones before.

    Args:
        number: increases with each rollout; it is that of its orders.
        kind: which of the two.
        run: the run's folder.
        force: of the orders.
        canary: the devices that go first, by name.
        stopped: why the rest gets nothing; empty while it does.
        cards: device type -> the model for it.
        leave: device -> SHA-256 of the model to go back from.
        devices: by name.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    number: int = Field(ge=1)
    kind: Literal["deploy", "rollback"]
    run: str = ""
    force: bool = False
    canary: tuple[str, ...] = ()
    stopped: str = ""
    cards: dict[str, Card] = {}
    leave: dict[str, str] = {}
    devices: dict[str, Member]

    def waiting(self) -> list[str]:
        """The devices that have not answered yet."""
        return [name for name, member in self.devices.items() if member.state == "waiting"]

    def changed(self, name: str, member: Member) -> Rollout:
        """With another state of a device."""
        return self.model_copy(update={"devices": {**self.devices, name: member}})


def deployed_cards(rollouts: Iterable[Rollout]) -> Mapping[str, tuple[Card, str]]:
    """SHA-256 -> card of a model that was deployed, and its run; of several, the first."""
    found: dict[str, tuple[Card, str]] = {}
    for rollout in rollouts:
        for card in rollout.cards.values():
            found.setdefault(card.artefact, (card, rollout.run))
    return found


class RolloutStore:
    """The rollouts of a coordinator's folder.

    Args:
        folder: of the coordinator.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "rollouts"

    def all(self) -> list[Rollout]:
        """All that are kept, the newest first.

        Raises:
            DeploymentError: one is damaged.
        """
        found = []
        for file in self._folder.glob("*.json"):
            try:
                found.append(Rollout.model_validate_json(file.read_bytes()))
            except ValidationError as wrong:
                said = first_error(wrong, Rollout, quotes=False)
                raise DeploymentError(f"{file} is damaged ({said}): remove it") from None
            except FileNotFoundError:
                continue  # another process has just removed it, as an old one
            except OSError as failed:
                raise DeploymentError(f"{file} cannot be read: {failed.strerror}") from None
        return sorted(found, key=lambda each: -each.number)

    def next_number(self) -> int:
        """A number above all earlier ones, also those of a folder that was restored since."""
        newest = max((each.number for each in self.all()), default=0)
        return max(newest + 1, int(time.time()))

    def begin(self, rollout: Rollout, models: Iterable[bytes] = ()) -> None:
        """Keep a new rollout; its devices no longer wait for earlier ones.

        Raises:
            StorageError: it cannot be written.
        """
        for model in models:
            file = self._model(hashlib.sha256(model).hexdigest())
            if not file.exists():
                with writing(file, "run the same command again"):
                    write_atomically(file, model, mode=0o600, parents=True)
        self.keep(rollout)
        for earlier in self.all():
            both = set(earlier.waiting()) & rollout.devices.keys()
            if earlier.number == rollout.number or not both:
                continue
            for name in both:
                earlier = earlier.changed(name, Member(state="superseded", at=time.time()))
            self.keep(earlier)

    def keep(self, rollout: Rollout) -> None:
        """Replace what is kept of a rollout."""
        file = self._folder / f"{rollout.number}.json"
        with writing(file, "run 'fieldtune deploy --superlink DIR' to go on"):
            text = rollout.model_dump_json(indent=1, exclude_none=True)
            write_atomically(file, text + "\n", mode=0o600, parents=True)
        if not rollout.waiting():
            self._forget()

    def model(self, card: Card) -> bytes:
        """The model of a card.

        Raises:
            StorageError: it is missing or damaged.
        """
        file = self._model(card.artefact)
        try:
            model = file.read_bytes()
        except OSError as failed:
            raise StorageError(f"{file} cannot be read: {failed.strerror}; deploy again") from None
        if hashlib.sha256(model).hexdigest() != card.artefact:
            raise StorageError(f"{file} is damaged: remove it, and deploy again")
        return model

    def _model(self, sha256: str) -> Path:
        return self._folder / "models" / f"{sha256}.tflite"

    def _forget(self) -> None:
        """Remove old rollouts, and models that no device waits for."""
        rollouts = self.all()
        for old in rollouts[_KEPT:]:
            if not old.waiting():
                (self._folder / f"{old.number}.json").unlink(missing_ok=True)
        needed = {
            card.artefact for each in rollouts if each.waiting() for card in each.cards.values()
        }
        for file in (self._folder / "models").glob("*.tflite"):
            if file.stem not in needed:
                file.unlink(missing_ok=True)
