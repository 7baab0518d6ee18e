"""The fleet of simulated clients: worker processes that run the real client.

Nothing here takes longer for a larger fleet, except :meth:`SimulatedFleet.members`, which makes a
description for each client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.federation.descriptions import admitted
from fieldtune.server.federation.fleet import Addressed, Reply, no_reply, refuse_if
from fieldtune.server.processes.child import Spawn
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from fieldtune.simulations.fleet.pool import WorkerPool


class SimulatedFleet:
    """A :class:`~fieldtune.server.federation.fleet.Fleet` of simulated clients.

    Args:
        plan: the fleet.
        workers: number of worker processes.
        import_path: folders in which to look for the user's modules.
        log: file for the output of the workers.
        notes: prints a sentence about each client that is left out.
        spawn: starts a worker process; None: on this machine.
        replaced: how many times in a row a worker that ends is replaced
            (:class:`~fieldtune.simulations.fleet.pool.WorkerPool`).
    """

    def __init__(
        self,
        plan: FleetPlan,
        *,
        workers: int,
        import_path: Sequence[str],
        log: Path,
        notes: Callable[[str], None] = lambda _: None,
        spawn: Spawn | None = None,
        replaced: int = 0,
    ) -> None:
        self._plan, self._notes = plan, notes
        self._members: dict[int, Description] | None = None
        self._refused: list[Reply] = []
        """Failure replies to requests for clients that are not members."""
        self._closed = False
        setup = {"plan": plan.to_json(), "import_path": list(import_path)}
        self._pool = WorkerPool(
            setup, workers=workers, log=log, notes=notes, spawn=spawn, replaced=replaced
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers; open requests are dropped."""
        if not self._closed:
            self._closed = True
            self._pool.close()

    @property
    def facts(self) -> DataFacts:
        """What the data set and its partition are; waits until a worker has loaded them.

        Raises:
            DataError: the data cannot be loaded.
            FleetError: a worker has ended.
        """
        return DataFacts.of(self._pool.introduction()[0]["facts"])

    def members(self) -> list[Description]:
        """The clients whose description is plausible; waits until a worker has loaded their data.

        Raises:
            DataError: the data cannot be loaded.
            FleetError: a worker has ended, or no client's description is plausible.
        """
        refuse_if(self._closed)
        if self._members is None:
            header, sizes = self._pool.introduction()
            profiles = assign_devices(self._plan.devices, self._plan.clients, self._plan.seed)
            kind = header["kind"]
            described = (
                Description(
                    client=client, profile=profile, train_samples=train, test_samples=test, **kind
                )
                for client, (profile, train, test) in enumerate(
                    zip(profiles, *(each.tolist() for each in sizes), strict=True)  # type: ignore[union-attr]
                )
            )
            self._members = admitted(described, self._notes)
            if not self._members:
                raise FleetError(f"None of {self._plan.clients} simulated clients can take part")
        return list(self._members.values())

    def joined(self) -> list[Description]:
        """None: the clients of this fleet stay the same."""
        refuse_if(self._closed)
        return []

    def connected(self) -> None:
        """All of them are, to this machine; a virtual clock says who would be there."""

    def send(self, requests: Sequence[Addressed]) -> None:
        """Queue requests for the workers."""
        refuse_if(self._closed)
        members = range(self._plan.clients) if self._members is None else self._members
        known = []
        for each in requests:
            if each.client in members:
                known.append(each)
            else:
                self._refused.append(no_reply(each, "it is not in this fleet"))
        self._pool.put(known)

    def receive(self, timeout_s: float) -> list[Reply]:
        """Reports that have come in.

        Raises:
            DataError: the data cannot be loaded.
            FleetError: a worker has ended.
        """
        refuse_if(self._closed)
        replies, self._refused = self._refused, []
        return replies or self._pool.replies(timeout_s)
