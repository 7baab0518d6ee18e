"""Registration: devices connect and describe themselves, before a study starts and during it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from flwr.app import Message

from fieldtune.client.contract.messages import Description
from fieldtune.client.contract.version import unsuitable
from fieldtune.client.node.fleet_api import NODE_UNAVAILABLE
from fieldtune.server.deployment.run import ConnectedDevice, Run
from fieldtune.server.federation.descriptions import (
    implausible,
    other_board,
    other_meaning,
    outliers,
)
from fieldtune.server.federation.flower_messages import describe_message, described

UNAVAILABLE = (3, 4, NODE_UNAVAILABLE)
"""Flower's errors for a message or reply that was lost or expired, and for a node that is away."""

DESCRIBE_TTL_S = 60.0
_MOST_NAMES = 5
_LOOKS = 20
"""After this many polls a device that could not take part is asked again: it may be fixed."""

_Kind = tuple[tuple[int, ...], int]
"""Shape of a sample, number of classes."""


class Registration:
    """The devices that have connected and described themselves.

    Args:
        run: on SuperLink.
        numbers: name of an enrolled device -> its client number.
        profiles: the device types that take part.
        notes: prints a sentence.
        like: name -> description of the devices of a running study, which others must fit.
        needs: the contract that the study needs of a device.

    Attributes:
        found: name -> connection and description of each device that can take part.
    """

    def __init__(
        self,
        run: Run,
        numbers: Mapping[str, int],
        profiles: Collection[str],
        notes: Callable[[str], None],
        like: Mapping[str, Description] | None = None,
        needs: int = 1,
    ) -> None:
        self._like, self._needs = like or {}, needs
        self._left_out: dict[str, str] = {}
        """Why a device that described itself is left out, as it was said."""
        self._run, self._numbers, self._profiles, self._notes = run, numbers, profiles, notes
        self._asked: dict[tuple[str, str], str | None] = {}
        self._ask_again: dict[tuple[str, str], int] = {}
        self._open: dict[str, ConnectedDevice] = {}
        self._said: set[str] = set()
        self._state = ""
        self._described: dict[str, tuple[ConnectedDevice, Description]] = {}
        self.found: dict[str, tuple[ConnectedDevice, Description]] = {}

    def look(self, nodes: Iterable[ConnectedDevice]) -> bool:
        """Ask new devices for descriptions, read answers, drop disconnected devices.

        Args:
            nodes: the connected devices.

        Returns whether an answer is still awaited.
        """
        there = {node.name: node for node in nodes}
        self._described = {
            name: (node, member)
            for name, (node, member) in self._described.items()
            if there.get(name) == node
        }
        for name in sorted(there.keys() - self._numbers.keys()):
            self._say_once(f"{name or 'A device without a name'} is not enrolled here: left out")
        for key in list(self._ask_again):
            self._ask_again[key] -= 1
            if not self._ask_again[key]:
                del self._ask_again[key]
                self._asked.pop(key, None)
        new = [
            node
            for name, node in sorted(there.items())
            if name in self._numbers and (name, node.activated) not in self._asked
        ]
        if new:
            ids = self._run.push([describe_message(node.node_id, DESCRIBE_TTL_S) for node in new])
            for node, message_id in zip(new, ids, strict=True):
                if message_id is not None:
                    self._asked[node.name, node.activated] = message_id
                    self._open[message_id] = node
        for message in self._run.pull(list(self._open)) if self._open else ():
            answering = self._open.pop(message.metadata.reply_to_message_id, None)
            if answering is not None:
                self._take(answering, message)
        self._agree()
        return bool(self._open)

    def say(self, wanted: int) -> None:
        """Print the devices that can take part, if they have changed."""
        found = ", ".join(
            f"{name} ({member.profile}, {member.train_samples} samples)"
            for name, (_, member) in sorted(self.found.items())
        )
        count = len(self.found)
        state = "waiting for devices: " if count < wanted else ""
        of = f" of {wanted}" if count <= wanted else ""  # more may take part than are waited for
        sentence = f"{state}{count}{of} are here{': ' if found else ''}{found}"
        if sentence != self._state:
            self._state = sentence
            self._notes(sentence)

    def wait(self, wanted: int) -> str:
        """The missing devices as a sentence; empty where enough are connected."""
        if (more := wanted - len(self.found)) <= 0:
            return ""
        missing = sorted(self._numbers.keys() - self.found.keys())
        return f"waiting for {more} more of {and_more(missing)} (no time limit)"

    def members(self) -> list[Description]:
        """The devices found, with the client numbers of their enrolment."""
        members = (
            member.model_copy(update={"client": self._numbers[name], "name": name})
            for name, (_, member) in self.found.items()
        )
        return sorted(members, key=lambda member: member.client)

    def nodes(self) -> dict[int, ConnectedDevice]:
        """Their nodes, by client number."""
        return {self._numbers[name]: node for name, (node, _) in self.found.items()}

    def _agree(self) -> None:
        """Keep the devices with the most frequent kind of data; at a tie, that of the first one.

        In a running study its kind counts. Who is left out is said once all have answered: until
        then it may change.
        """
        self.found = dict(sorted(self._described.items(), key=lambda at: self._numbers[at[0]]))
        described = {name: member for name, (_, member) in self.found.items()}
        kinds = Counter(_kind(member) for member in (self._like or described).values())
        left_out = {}
        for name, member in described.items():
            (usual, _), *_ = kinds.most_common(1)  # at a tie, the one counted first
            if _kind(member) != usual:
                left_out[name] = f"is left out: {_difference(_kind(member), usual)}"
        like = {name: each for name, each in described.items() if name not in left_out}
        for name, why in other_meaning({**self._like, **like}).items():
            if name in like:
                left_out[name] = f"is left out: {why}"
                del like[name]
        for name, why in outliers({**self._like, **like}).items():
            if name in like:
                left_out[name] = f"cannot take part: {why}"
        for name, why in left_out.items():
            node, _ = self.found.pop(name)
            self._ask_again.setdefault((name, node.activated), _LOOKS)
            if not self._open and self._left_out.get(name) != why:
                self._left_out[name] = why
                self._notes(f"{name} {why}")
        for name in self.found.keys() & self._left_out.keys():
            del self._left_out[name]
            self._notes(f"{name} is not left out any more")

    def _take(self, node: ConnectedDevice, message: Message) -> None:
        if message.has_error() and message.error.code in UNAVAILABLE:
            self._asked.pop((node.name, node.activated), None)  # the message was lost: ask again
            return
        self._described.pop(node.name, None)
        answer = described(message)
        why = answer if isinstance(answer, str) else answer.problem or implausible(answer)
        if isinstance(answer, str) or why:
            self._say_once(f"{node.name} cannot take part: {why}")
            self._ask_again[node.name, node.activated] = _LOOKS
            return
        if old := unsuitable(answer.contract, answer.version, self._needs):
            self._say_once(f"{node.name} is left out: {old}")
            return
        if answer.profile not in self._profiles:
            self._say_once(
                f"{node.name} is a {answer.profile or 'device of unknown type'}, which "
                "fleet.devices does not name: left out"
            )
            return
        if other := other_board(answer):
            self._say_once(f"{node.name} {other}")
        self._described[node.name] = (node, answer)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._notes(sentence)


def and_more(names: Sequence[str]) -> str:
    """The first few of these, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _kind(member: Description) -> _Kind:
    return member.input_shape, member.classes


def _difference(kind: _Kind, usual: _Kind) -> str:
    (shape, classes), (usual_shape, usual_classes) = kind, usual
    if shape != usual_shape:
        return (
            f"its samples have shape {list(shape)}, those of the others {list(usual_shape)}; "
            "convert them to one shape"
        )
    return (
        f"its data have {classes} classes, those of the others {usual_classes}; if the task is "
        "the same, set classes = N in data.toml, with the same N on every device"
    )
