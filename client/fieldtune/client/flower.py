"""What fieldtune uses of Flower beyond its public API, in one place.

Holds for flwr 1.41; ``tests/client/test_flower.py`` is the contract. A process that makes messages
itself, without SuperLink, has to say whose they are, number them, and turn them into bytes.
"""

from __future__ import annotations

from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


def identify_process(run_id: int, node_id: int) -> None:
    """Say whose messages this process makes; ``Message()`` needs it."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id


def number_message(message: Message, message_id: str) -> None:
    """Give a message its id, as a SuperLink would."""
    message.metadata.__dict__["_message_id"] = message_id


def message_to_bytes(message: Message) -> bytes:
    """The message as it travels."""
    return bytes(message_to_proto(message).SerializeToString())


def message_from_bytes(data: bytes) -> Message:
    """The message that :func:`message_to_bytes` wrote."""
    return message_from_proto(ProtoMessage.FromString(data))


def empty_run(run_id: int) -> Run:
    """A run that no SuperLink knows."""
    return Run.create_empty(run_id)
