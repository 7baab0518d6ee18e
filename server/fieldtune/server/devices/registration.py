"""Who is there: devices as they connect and describe themselves, before a study starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from flwr.app import Message

from fieldtune.client.contract.messages import Description
from fieldtune.client.node.fleet_api import AWAY
from fieldtune.server.deployment.run import Node, Run
from fieldtune.server.federation.grid_fleet import describe_message, described
from fieldtune.server.federation.plausible import implausible

UNAVAILABLE = (3, 4, AWAY)
"""Flower's errors for a message or reply that was lost or expired, and for a node that is away."""

DESCRIBE_TTL_S = 60.0
_MOST_NAMES = 5
_LOOKS = 20
"""So many looks later a device that could not take part is asked again: it may have been mended."""

_Kind = tuple[tuple[int, ...], int]
"""Shape of a sample, number of classes."""


class Gathering:
    """Devices as they come in and describe themselves."""

    def __init__(
        self,
        run: Run,
        numbers: Mapping[str, int],
        profiles: Collection[str],
        notes: Callable[[str], None],
    ) -> None:
        self._run, self._numbers, self._profiles, self._notes = run, numbers, profiles, notes
        self._asked: dict[tuple[str, str], str | None] = {}
        self._ask_again: dict[tuple[str, str], int] = {}
        self._open: dict[str, Node] = {}
        self._said: set[str] = set()
        self._state = ""
        self._described: dict[str, tuple[Node, Description]] = {}
        self.found: dict[str, tuple[Node, Description]] = {}

    def look(self) -> bool:
        """Ask newcomers, take answers, forget who has left; whether an answer is still awaited."""
        there = {node.name: node for node in self._run.nodes()}
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
        for message in self._run.pull(list(self._open)):
            answering = self._open.pop(message.metadata.reply_to_message_id, None)
            if answering is not None:
                self._take(answering, message)
        self._agree()
        return bool(self._open)

    def say(self, wanted: int) -> None:
        """Who is here, whenever that has changed."""
        here = ", ".join(
            f"{name} ({member.profile}, {member.train_samples} samples)"
            for name, (_, member) in sorted(self.found.items())
        )
        count = len(self.found)
        state = "waiting for devices: " if count < wanted else ""
        sentence = f"{state}{count} of {wanted} are here{': ' if here else ''}{here}"
        if sentence != self._state:
            self._state = sentence
            self._notes(sentence)

    def wait(self, wanted: int) -> str:
        """What is waited for; empty where enough are here."""
        if (more := wanted - len(self.found)) <= 0:
            return ""
        missing = sorted(self._numbers.keys() - self.found.keys())
        return f"waiting for {more} more of {and_more(missing)} (no time limit)"

    def members(self) -> list[Description]:
        """The devices found, with the numbers that they were enrolled under."""
        members = (
            member.model_copy(update={"client": self._numbers[name], "name": name})
            for name, (_, member) in self.found.items()
        )
        return sorted(members, key=lambda member: member.client)

    def nodes(self) -> dict[int, Node]:
        """Their nodes, by number."""
        return {self._numbers[name]: node for name, (node, _) in self.found.items()}

    def _agree(self) -> None:
        """Keep those whose data are of the kind that most have; at a tie, the first enrolled."""
        self.found = dict(sorted(self._described.items(), key=lambda at: self._numbers[at[0]]))
        kinds = Counter(_kind(member) for _, member in self.found.values())
        for name, (node, member) in list(self.found.items()):
            (usual, _), *_ = kinds.most_common(1)  # at a tie, what was counted first
            if _kind(member) != usual:
                del self.found[name]
                self._say_once(f"{name} is left out: {_difference(_kind(member), usual)}")
                self._ask_again.setdefault((name, node.activated), _LOOKS)

    def _take(self, node: Node, message: Message) -> None:
        if message.has_error() and message.error.code in UNAVAILABLE:
            self._asked.pop((node.name, node.activated), None)  # lost on the way: ask again
            return
        self._described.pop(node.name, None)
        answer = described(message)
        why = answer if isinstance(answer, str) else answer.problem or implausible(answer)
        if isinstance(answer, str) or why:
            self._say_once(f"{node.name} cannot take part: {why}")
            self._ask_again[node.name, node.activated] = _LOOKS
            return
        if answer.profile not in self._profiles:
            self._say_once(
                f"{node.name} is a {answer.profile or 'device of unknown type'}, which "
                "fleet.devices does not name: left out"
            )
            return
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
            f"its samples have shape {list(shape)}, those of the others {list(usual_shape)}; bring "
            "them to one shape"
        )
    return (
        f"its data have {classes} classes, those of the others {usual_classes}; where the task is "
        "the same, say classes = N in data.toml, the same N on every device"
    )
