"""``fieldtune coordinator watch``: asks the devices again and again, and delivers what waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from fieldtune.profiles.common.errors import DeploymentError, FleetError, StorageError
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.superlink_control import ENVIRONMENT
from fieldtune.server.devices.superlink_run import SuperLinkRun
from fieldtune.server.operation.delivery import Delivery
from fieldtune.server.operation.exchange import Exchange
from fieldtune.server.operation.rollouts import RolloutStore
from fieldtune.server.operation.tables import Watched

Notes = Callable[[str], None]
_PATIENCE_S = 10.0
"""A pass does not wait longer for SuperLink: commands wait until it has ended."""


def _run(folder: CoordinatorFolder, notes: Notes) -> SuperLinkRun:
    return SuperLinkRun(folder, notes, patience_s=_PATIENCE_S)


class Watch:
    """Passes over the fleet: each asks the connected devices, and delivers rollouts to who waits.

    A pass is left out while a study uses the devices. The run on SuperLink is kept from pass to
    pass; a study that starts ends it.

    Args:
        folder: of the coordinator.
        notes: prints a sentence, each once until it changes.
        exchange: opens the exchange with the devices.
    """

    def __init__(
        self,
        folder: CoordinatorFolder,
        notes: Notes,
        exchange: Callable[[], Exchange] | None = None,
    ) -> None:
        os.environ.update(ENVIRONMENT)
        self._folder, self._notes = folder, notes
        self._open = exchange or (lambda: Exchange(lambda: _run(folder, notes)))
        self._exchange: Exchange | None = None
        self._said: dict[str, tuple[str, ...]] = {}
        self._before: set[str] = set()
        self._noted: set[str] = set()
        """Notes of the last pass, and of this one."""
        self.connected: set[str] | None = None
        """Names of the devices that were connected in the last pass; None: not known."""

    def close(self) -> None:
        """End the run."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    def step(self) -> bool:
        """One pass; False where it was left out or has failed."""
        try:
            with self._folder.in_use(briefly=True):
                self._pass()
        except (DeploymentError, StorageError) as failed:
            self._once("", str(failed))
            return False
        except FleetError as away:
            self.connected = None
            self._once("", str(away))
            return False
        self._said.pop("", None)
        return True

    def _pass(self) -> None:
        if self._exchange is None:
            self._exchange = self._open()
        store = RolloutStore(self._folder.path)
        self._before, self._noted = self._noted, set()
        delivery = Delivery(self._folder, self._exchange, self._note)
        self.connected = set(self._exchange.connected())
        for rollout in store.all():
            if self.connected & set(rollout.waiting()):
                try:
                    delivery.advance(rollout)
                except StorageError as failed:  # the others are not to wait for its model
                    self._note(str(failed))
        delivery.ask_status()
        watched = Watched.of(self._folder, self.connected)
        for name in watched.numbers:
            self._once(name, *(f"{name}: {each}" for each in watched.problems(name)))
        self._once("retune", *watched.health.retune(self._folder.path))

    def _note(self, sentence: str) -> None:
        """Print a note of a delivery, unless the last pass had it too."""
        if sentence not in self._before | self._noted:
            self._notes(sentence)
        self._noted.add(sentence)

    def _once(self, about: str, *sentences: str) -> None:
        """Print what is new of a subject."""
        before = self._said.get(about, ())
        for sentence in sentences:
            if sentence not in before:
                self._notes(sentence)
        self._said[about] = sentences


def watch(folder: CoordinatorFolder, every_s: float, notes: Notes, port: int | None = None) -> None:
    """Pass over the fleet until Ctrl-C, and serve metrics on loopback where a port is given.

    Raises:
        MissingExtraError: for metrics, ``prometheus-client`` is not installed.
        FleetError: the port is not free.
    """
    watching, stop = Watch(folder, notes), threading.Event()
    if port is not None:
        from fieldtune.server.operation.metrics import serve_metrics

        notes(f"Metrics: {serve_metrics(folder, watching, port)}")
    try:
        with suppress(KeyboardInterrupt):
            while True:
                began = time.monotonic()
                watching.step()
                if stop.wait(max(0.0, every_s - (time.monotonic() - began))):
                    return
    finally:
        watching.close()
