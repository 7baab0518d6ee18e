"""Revalidation: devices that reconnect during a study describe themselves again.

Meanwhile a device's data may have changed, or its SD card may be in another board. A device that is
no longer of the type, or no longer has the kind of data, that it had when the study began is left
out until it has: its measurements would be counted for the wrong device type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flwr.app import Message

from fieldtune.client.contract.messages import Description
from fieldtune.server.deployment.run import ConnectedDevice, Run
from fieldtune.server.devices.registration import DESCRIBE_TTL_S, UNAVAILABLE
from fieldtune.server.federation.descriptions import implausible
from fieldtune.server.federation.flower_messages import describe_message, described


class Revalidation:
    """Descriptions of a study's devices: when it began, and after they have reconnected.

    Args:
        members: the devices, by client number, as they described themselves.
        nodes: their connections at that time, by client number.
        notes: prints a sentence about a device that has changed.
    """

    def __init__(
        self,
        members: Mapping[int, Description],
        nodes: Mapping[int, ConnectedDevice],
        notes: Callable[[str], None],
    ) -> None:
        self._members, self._notes = dict(members), notes
        self._latest = dict(members)
        self._known = {client: node.activated for client, node in nodes.items()}
        """The connection in which a device last described itself."""
        self._asked: dict[str, tuple[int, str]] = {}
        """Open message -> client, and its connection."""
        self._changed: dict[int, str] = {}

    def add(self, client: int, member: Description, node: ConnectedDevice) -> None:
        """A device has joined the study."""
        self._members[client] = self._latest[client] = member
        self._known[client] = node.activated

    @property
    def open_messages(self) -> list[str]:
        """Ids of messages whose answers go to :meth:`take`."""
        return list(self._asked)

    def ask_again(self, clients: Iterable[int]) -> None:
        """Have devices describe themselves again, although they have not reconnected."""
        for client in clients:
            self._known.pop(client, None)

    def ask(self, there: Mapping[int, ConnectedDevice], run: Run) -> None:
        """Ask reconnected devices for their descriptions."""
        asked = set(self._asked.values())
        new = [
            (client, node)
            for client, node in there.items()
            if not self.knows(client, node)
            and client in self._members
            and (client, node.activated) not in asked
        ]
        if not new:
            return
        ids = run.push([describe_message(node.node_id, DESCRIBE_TTL_S) for _, node in new])
        for (client, node), message_id in zip(new, ids, strict=True):
            if message_id is not None:
                self._asked[message_id] = client, node.activated

    def take(self, message: Message) -> bool:
        """Process an answer; False if the message answers none of :attr:`open_messages`."""
        asked = self._asked.pop(message.metadata.reply_to_message_id, None)
        if asked is None:
            return False
        if message.has_error() and message.error.code in UNAVAILABLE:
            return True  # message or reply was lost: it is asked again
        client, activated = asked
        self._known[client] = activated
        answer, before = described(message), self._members[client]
        change = "" if isinstance(answer, str) else _change(answer, before)
        if not isinstance(answer, str) and not (change or answer.problem or implausible(answer)):
            self._latest[client] = answer
        if change and change != self._changed.get(client):
            self._notes(f"{before.name} {change}: left out until this is undone")
        if change:
            self._changed[client] = change
        elif isinstance(answer, str):
            pass  # no answer that can be read lets it in, or keeps it out
        elif self._changed.pop(client, None) is not None:
            self._notes(f"{before.name} is unchanged again: it takes part again")
        elif other := _other_data(answer, before):
            self._notes(f"{before.name} {other}")
        return True

    def is_member(self, client: int) -> bool:
        """Whether a device takes part in the study; others get no requests."""
        return client in self._members

    def knows(self, client: int, node: ConnectedDevice) -> bool:
        """Whether a device has described itself since it last connected."""
        return self._known.get(client) == node.activated

    def change(self, client: int) -> str:
        """Why a device is left out, as a sentence; empty where it takes part."""
        return self._changed.get(client, "")

    def described(self, client: int) -> Description | None:
        """A device's latest description; None for a device that is not a member."""
        return self._latest.get(client)

    def run_is_lost(self) -> None:
        """Forget the open messages of the lost run."""
        self._asked.clear()


def _change(now: Description, before: Description) -> str:
    """Why a device is of another kind now; empty where it is not.

    Also empty where its data is invalid: then it reports the problem with each request.
    """
    if now.profile != before.profile:
        known = now.profile or "device of unknown type"
        return f"has reconnected as a {known}, not as a {before.profile}"
    if now.problem:
        return ""
    if now.input_shape != before.input_shape:
        return (
            f"has reconnected with samples of shape {list(now.input_shape)}, "
            f"not {list(before.input_shape)}"
        )
    if now.classes != before.classes:
        return f"has reconnected with data of {now.classes} classes, not {before.classes}"
    return ""


def _other_data(now: Description, before: Description) -> str:
    """How the data of a device that takes part has changed, as a sentence; empty if it has not."""
    if why := now.problem or implausible(now):
        return f"has reconnected, but cannot train: {why}"
    sizes = [f"{each.train_samples} + {each.test_samples}" for each in (now, before)]
    if sizes[0] == sizes[1]:
        return ""
    return f"has reconnected with other data: {sizes[0]} samples, not {sizes[1]} (training + test)"
