"""Devices and a run that make combined calls to SuperLink's own state."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from support.in_process_superlink import InProcessSuperLink


class Scene:
    """Devices that are connected, and a run; calls are noted."""

    def __init__(
        self, superlink: InProcessSuperLink, monkeypatch: pytest.MonkeyPatch, devices: int
    ) -> None:
        self.superlink = superlink
        self.links = [superlink.link(f"pi-{n}") for n in range(devices)]
        self.nodes = [link.activate() for link in self.links]
        self.run = superlink.run(monkeypatch)
        self.objects = len(superlink.state.object_store)
        self.calls: dict[object, list[str]] = {}
        for end in (*self.links, self.run):
            self.calls[end] = []
            end._client._client.event_hooks = {
                "request": [lambda sent, end=end: self.calls[end].append(sent.url.path)]
            }

    def ask(self, devices: int = 1, weights: int = 1000) -> list[str]:
        """Send each of the first devices a request with the same weights; the messages' ids."""
        array = Array(np.arange(weights, dtype=np.float32))
        messages = []
        for number, node in enumerate(self.nodes[:devices]):
            content = RecordDict({"message": ConfigRecord({"seed": number})})
            content["weights"] = ArrayRecord({"all": array})
            messages.append(Message(content, node, "train", ttl=600.0))
        sent = self.run.push(messages)
        assert all(sent)
        return [each for each in sent if each]

    def answer(self, number: int = 0) -> Message:
        """A device fetches its message, and sends it back."""
        link, node = self.links[number], self.nodes[number]
        pending = link.pull(node)
        assert pending is not None
        message = link.fetch(node, pending)
        link.push(node, Message(message.content, reply_to=message), 0.1)
        return message

    def left_objects(self) -> int:
        """How many more objects SuperLink holds than at the start."""
        return len(self.superlink.state.object_store) - self.objects


def seed(message: Message) -> object:
    return message.content.config_records["message"]["seed"]
