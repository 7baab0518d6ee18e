"""The contract with the parts of Flower that only the coordinator uses; see FLOWER_VERSIONS.

That SuperLink takes our requests is tested in ``test_deployment``; here is what can be seen alone.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.cli.config_utils import get_fab_config, get_fab_metadata
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from fieldtune.client.node.fleet_api import FLOWER_VERSIONS, identify_process, set_message_id
from fieldtune.server.deployment import superlink_control as control
from fieldtune.server.devices import device_fleet as fleet
from fieldtune.server.devices import registration as gathering
from fieldtune.server.devices import replies
from fieldtune.server.devices import superlink_run as superlink
from fieldtune.server.devices.reply_limits import TooLargeError, check_size, most_bytes, refused
from fieldtune.server.federation.flower_messages import REPLY_REFUSED

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp")


def test_this_contract_holds_for_the_installed_flower() -> None:
    assert ".".join(version("flwr").split(".")[:2]) in FLOWER_VERSIONS


def test_what_is_private_to_flower_is_used_in_one_module_of_each_program() -> None:
    using = set()
    for file in ROOT.glob("*/fieldtune/**/*.py"):
        for each in ast.walk(ast.parse(file.read_text())):
            names = [each.module or ""] if isinstance(each, ast.ImportFrom) else []
            names += [name.name for name in each.names] if isinstance(each, ast.Import) else []
            if any(name.partition(".")[0] == "flwr" and name not in PUBLIC for name in names):
                using.add(str(file.relative_to(ROOT)))
    assert using == {
        "client/fieldtune/client/node/fleet_api.py",
        "server/fieldtune/server/deployment/flower_private.py",
        "server/fieldtune/server/deployment/superlink_handlers.py",
    }


def test_the_numbers_are_flowers() -> None:
    assert superlink._COORDINATOR == SUPERLINK_NODE_ID
    assert REPLY_REFUSED not in vars(ErrorCode).values()
    assert replies._REPLY_LOST == ErrorCode.REPLY_MESSAGE_UNAVAILABLE
    assert fleet._CRASHED == ErrorCode.CLIENT_APP_CRASHED
    assert gathering.UNAVAILABLE == (
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    )


def test_the_bundle_is_flowers_holds_no_code_and_names_what_is_installed_on_a_device() -> None:
    bundle = control._bundle()
    assert get_fab_metadata(bundle) == ("fieldtune/fieldtune", "1.0.0")
    components = get_fab_config(bundle)["tool"]["flwr"]["app"]["components"]
    module, _, attribute = components["clientapp"].partition(":")
    assert hasattr(import_module(module), attribute)
    with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
        assert sorted(opened.namelist()) == [".info/CONTENT", "pyproject.toml"]
    assert control._bundle() == bundle


def test_a_reply_that_was_lost_on_its_way_is_an_error_that_names_its_message() -> None:
    identify_process(1, 1)
    message = Message(RecordDict(), 5, "train")
    set_message_id(message, "m1")
    lost = replies.lost_reply(Message(RecordDict(), reply_to=message))
    assert lost.has_error()
    assert lost.metadata.reply_to_message_id == "m1"


def head_of_a_reply() -> Message:
    """As SuperLink hands it over: device 5 has answered message m1."""
    identify_process(1, 1)
    message = Message(RecordDict(), 5, "train")
    set_message_id(message, "m1")
    head = Message(RecordDict(), reply_to=message)
    set_message_id(head, "r1")
    return head


def packed(kind: str, body: bytes) -> bytes:
    """An object as Flower sends it."""
    return f"{kind}  {len(body)}".encode() + b"\0" + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        packed("Message", b""),
        packed("Message", b"\xff\xff\xff"),
        packed("Surprise", b""),
        packed("RecordDict", b""),
        f"Message {'a' * 64} 0".encode() + b"\0",
    ],
    ids=["nothing", "empty", "garbled", "unknown", "no message", "childless"],
)
def test_a_reply_that_cannot_be_read_is_an_error_that_names_its_message(content: bytes) -> None:
    reply = replies.inflated(head_of_a_reply(), {"r1": content})
    assert reply.error.code == REPLY_REFUSED
    assert reply.metadata.reply_to_message_id == "m1"


def test_an_honest_reply_to_any_request_is_within_the_limits() -> None:
    identify_process(1, 1)
    for count in (0, 1, 610, 3 * 2**20):
        weights = ArrayRecord({"all": Array(np.random.default_rng(0).random(count, np.float32))})
        told = {"message": ConfigRecord({"detail": "x" * 500}), "weights": weights}
        asked = Message(RecordDict({"weights": weights}), 5, "train")
        set_message_id(asked, "m1")
        objects = get_all_nested_objects(Message(RecordDict(told), reply_to=asked))
        size = sum(len(each.deflate()) for each in objects.values())
        assert refused(most_bytes(asked), len(objects), size) == ""
        assert refused(most_bytes(asked), len(objects), size + 2**21)
        assert refused(most_bytes(asked), len(objects) + 10, 0)


@pytest.mark.parametrize(
    ("path", "size", "allowed"),
    [("pull-object", 6 * 2**20, True), ("pull-object", 7 * 2**20, False), ("get", 2**30, True)],
)
def test_an_object_larger_than_any_is_not_read(path: str, size: int, allowed: bool) -> None:
    request = httpx.Request("POST", f"https://x/v1/runtime/{path}")
    answer = httpx.Response(200, headers={"content-length": str(size)}, request=request)
    if allowed:
        check_size(answer)
        return
    with pytest.raises(TooLargeError, match="an object of 7 MiB"):
        check_size(answer)


def test_a_reply_is_to_what_superlink_says_and_not_to_what_it_claims() -> None:
    head = head_of_a_reply()
    other = Message(RecordDict(), 6, "train")
    set_message_id(other, "m2")
    content = RecordDict({"message": ConfigRecord({"trial": 3})})
    for forged in (Message(content, reply_to=other), Message(Error(2), reply_to=other)):
        objects = {key: part.deflate() for key, part in get_all_nested_objects(forged).items()}
        objects["r1"] = objects.pop(forged.object_id)
        reply = replies.inflated(head, objects)
        assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == ("m1", 5)
        assert reply.has_error() == forged.has_error()
        assert reply.has_error() or reply.content == content


def test_a_study_does_not_load_superlinks_database() -> None:
    code = (
        "import sys, fieldtune.server.devices.superlink_run; "
        "sys.exit(any(name.startswith('flwr.server.superlink.linkstate') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
