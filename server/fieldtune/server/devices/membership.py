"""Membership: which devices take part in a study, and which of them are connected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from fieldtune.client.contract.messages import Description
from fieldtune.server.deployment.run import ConnectedDevice, Run
from fieldtune.server.devices.registration import Registration
from fieldtune.server.devices.revalidation import Revalidation

_LATECOMERS_S = 5.0
_POLL_S = 0.5


class Membership:
    """The devices of a study: those that registered at its start, and those that joined since.

    Args:
        numbers: name of an enrolled device -> its client number.
        renumber: the same again, with devices that were enrolled since.
        profiles: the device types that take part.
        needs: the contract that the study needs of a device.
        notes: prints a sentence about devices that connect, disconnect or join.

    Attributes:
        connected: client -> its connection, of those that are connected.
        left_at: client -> when it was last connected, of those that have disconnected.
        revalidation: their descriptions, and the questions to those that have reconnected.
    """

    def __init__(
        self,
        numbers: Mapping[str, int],
        renumber: Callable[[], Mapping[str, int]],
        profiles: Collection[str],
        needs: int,
        notes: Callable[[str], None],
    ) -> None:
        self._numbers, self._renumber = dict(numbers), renumber
        self._profiles, self._needs, self._notes = profiles, needs, notes
        self._names = {number: name for name, number in numbers.items()}
        self._members: dict[str, Description] = {}
        """By name."""
        self._newcomers: Registration | None = None
        """Of devices that connect while the study runs."""
        self._joined: list[Description] = []
        self.connected: dict[int, ConnectedDevice] = {}
        self.left_at: dict[int, float] = {}
        self.revalidation = Revalidation({}, {}, notes)

    def register(
        self,
        run: Run,
        wanted: int,
        waiting: Callable[[str], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> list[Description]:
        """Wait until enough devices have described themselves; these are the members.

        Args:
            run: on SuperLink.
            wanted: number of devices.
            waiting: called repeatedly with the devices that are waited for, as a sentence.
            clock: seconds; only differences count.
            sleep: waits so many seconds.

        Raises:
            RunLostError: SuperLink has dropped the run.
        """
        registration, enough_since = self._registration(run), None
        while True:
            unanswered = registration.look(run.nodes())
            registration.say(wanted)
            waiting(registration.wait(wanted))
            now = clock()
            if len(registration.found) < wanted:
                enough_since = None
            else:
                enough_since = now if enough_since is None else enough_since
                if not unanswered or now - enough_since >= _LATECOMERS_S:
                    break
            sleep(_POLL_S)
        members, self.connected = registration.members(), registration.nodes()
        known = {member.client: member for member in members}
        self.revalidation = Revalidation(known, self.connected, self._notes)
        self._members = {member.name: member for member in members}
        self._newcomers = self._registration(run)
        return members

    def update(self, nodes: Sequence[ConnectedDevice], now: float) -> None:
        """Note who has connected, disconnected or joined.

        Args:
            nodes: the connected devices, members or not.
            now: seconds.
        """
        before, self.connected = (
            self.connected,
            {self._numbers[node.name]: node for node in nodes if node.name in self._members},
        )
        for number in sorted(before.keys() - self.connected.keys()):
            self.left_at[number] = now
            self._notes(f"{self._names[number]} has disconnected")
        for number in sorted(self.connected.keys() - before.keys()):
            self.left_at.pop(number, None)
            self._notes(f"{self._names[number]} is connected")
        self._admit([node for node in nodes if node.name not in self._members])

    def joined(self) -> list[Description]:
        """Devices that have joined since this was last called."""
        joined, self._joined = self._joined, []
        return joined

    def name(self, client: int) -> str:
        """The name of a client; ``device 7`` for one that is not enrolled."""
        return self._names.get(client, f"device {client}")

    def is_ready(self, client: int) -> bool:
        """Whether it is connected, has described itself since, and has not changed its kind."""
        node = self.connected.get(client)
        described = node is not None and self.revalidation.knows(client, node)
        return described and not self.revalidation.change(client)

    def run_is_lost(self, run: Run) -> None:
        """Go on with another run."""
        self.revalidation.run_is_lost()
        if self._newcomers is not None:
            self._newcomers = self._registration(run)

    def _registration(self, run: Run) -> Registration:
        return Registration(
            run, self._numbers, self._profiles, self._notes, self._members, self._needs
        )

    def _admit(self, nodes: Sequence[ConnectedDevice]) -> None:
        """Have devices that are not members describe themselves; those that fit join."""
        if self._newcomers is None:
            return
        if any(node.name not in self._numbers for node in nodes):
            self._numbers.update(self._renumber())
            self._names.update({number: name for name, number in self._numbers.items()})
        self._newcomers.look(nodes)
        there = self._newcomers.nodes()
        for member in self._newcomers.members():
            self._members[member.name] = member
            self.connected[member.client] = there[member.client]
            self.revalidation.add(member.client, member, there[member.client])
            self._joined.append(member)
            self._notes(
                f"{member.name} has joined ({member.profile}, {member.train_samples} samples): it "
                "takes part in new trials"
            )
