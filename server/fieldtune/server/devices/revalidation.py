"""Devices that connect anew during a study are asked again who they are.

Meanwhile an owner may have changed a device's data, or its card may be in another board. A study
takes it for what it was when the study began: one that has become another kind of device is left
out until it is that again, since its figures would be believed of the wrong type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flwr.app import Message

from fieldtune.client.contract.messages import Description
from fieldtune.server.deployment.run import Node, Run
from fieldtune.server.devices.registration import DESCRIBE_TTL_S, UNAVAILABLE
from fieldtune.server.federation.grid_fleet import describe_message, described
from fieldtune.server.federation.plausible import implausible


class Returning:
    """What the devices of a study were when it began, and what they say when they come back.

    Args:
        members: the devices, by client number, as they described themselves.
        nodes: the connections in which they did.
        notes: is told, in a sentence, of a device that is not what it was.
    """

    def __init__(
        self,
        members: Mapping[int, Description],
        nodes: Mapping[int, Node],
        notes: Callable[[str], None],
    ) -> None:
        self._members, self._notes = members, notes
        self._latest = dict(members)
        self._known = {client: node.activated for client, node in nodes.items()}
        """The connection in which a device last described itself."""
        self._asked: dict[str, tuple[int, str]] = {}
        """Message -> client, and its connection."""
        self._changed: dict[int, str] = {}

    @property
    def open_messages(self) -> list[str]:
        """Those whose answers are for :meth:`take`."""
        return list(self._asked)

    def ask(self, there: Mapping[int, Node], run: Run) -> None:
        """Ask whoever has connected anew."""
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
        """Take an answer; False where the message is none."""
        asked = self._asked.pop(message.metadata.reply_to_message_id, None)
        if asked is None:
            return False
        if message.has_error() and message.error.code in UNAVAILABLE:
            return True  # lost on the way: it is asked again
        client, activated = asked
        self._known[client] = activated
        answer, before = described(message), self._members[client]
        change = "" if isinstance(answer, str) else _change(answer, before)
        if not isinstance(answer, str) and not (change or answer.problem or implausible(answer)):
            self._latest[client] = answer
        if change and change != self._changed.get(client):
            self._notes(f"{before.name} {change}: left out until it is as before")
        if change:
            self._changed[client] = change
        elif self._changed.pop(client, None) is not None:
            self._notes(f"{before.name} is as before: it takes part again")
        elif not isinstance(answer, str) and (other := _other_data(answer, before)):
            self._notes(f"{before.name} {other}")
        return True

    def took_part(self, client: int) -> bool:
        """Whether a device was there when the study began; no other one is asked anything."""
        return client in self._members

    def knows(self, client: int, node: Node) -> bool:
        """Whether a device has described itself since it connected."""
        return self._known.get(client) == node.activated

    def change(self, client: int) -> str:
        """What is different about a device that is left out; empty where it takes part."""
        return self._changed.get(client, "")

    def described(self, client: int) -> Description | None:
        """How a device describes itself now; None where it is not of the study."""
        return self._latest.get(client)

    def run_is_lost(self) -> None:
        """Expect no answers of the run so far."""
        self._asked.clear()


def _change(now: Description, before: Description) -> str:
    """What makes another kind of device of it; what is wrong with its data it says each time."""
    if now.profile != before.profile:
        known = now.profile or "device of unknown type"
        return f"has come back as a {known}, not as a {before.profile}"
    if now.problem:
        return ""
    if now.input_shape != before.input_shape:
        return (
            f"has come back with samples of shape {list(now.input_shape)}, "
            f"not {list(before.input_shape)}"
        )
    if now.classes != before.classes:
        return f"has come back with data of {now.classes} classes, not {before.classes}"
    return ""


def _other_data(now: Description, before: Description) -> str:
    """What is different about the data of a device that takes part."""
    if why := now.problem or implausible(now):
        return f"has come back, but cannot train: {why}"
    sizes = [f"{each.train_samples} + {each.test_samples}" for each in (now, before)]
    if sizes[0] == sizes[1]:
        return ""
    return f"has come back with other data: {sizes[0]} samples, not {sizes[1]} (training + test)"
