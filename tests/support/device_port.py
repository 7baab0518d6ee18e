"""Calls of the coordinator's ports, as a device, a stranger or another user would make them."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from flwr.proto.control_pb2 import ListNodesResponse
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from google.protobuf.message import Message as Proto

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.combined_calls import Parts
from fieldtune.client.node.fleet_api import Link
from fieldtune.server.deployment.superlink_control import CONTROL_HEADER, control_key
from support.deployment import Deployment

_PROTOBUF = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}


def call(deployment: Deployment, path: str, request: Proto | Parts) -> int:
    """The status that the device port answers; the path travels just as it is spelt."""
    bundle = Bundle.read(deployment.path / "bundles/pi-0.bundle.toml")
    context = ssl.create_default_context(cadata=bundle.ca_certificate)
    asked = urllib.request.Request(
        f"https://{bundle.address}{path}",
        data=request.SerializeToString(),
        headers=_PROTOBUF,
    )
    try:
        with urllib.request.urlopen(asked, context=context, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


@contextmanager
def link(bundle: Bundle, key: str | None = None) -> Iterator[Link]:
    """A device's connection, with its own key or with another."""
    made = Link(
        bundle.address,
        bundle.ca_certificate,
        key or bundle.private_key,
        None if key else bundle.certificate,
    )
    try:
        yield made
    finally:
        made.close()


def enrolled_nodes(deployment: Deployment) -> list[Any]:
    """What SuperLink's own port tells whoever reaches it: on loopback, and only there."""
    answer = httpx.post(
        f"https://127.0.0.1:{deployment.superlink_port}/v1/control/list-nodes",
        content=b"",
        headers=_PROTOBUF | {CONTROL_HEADER: control_key(deployment.opened().executor_key)},
        verify=ssl.create_default_context(cadata=deployment.opened().ca_certificate),
    )
    assert answer.status_code == 200
    return list(ListNodesResponse.FromString(answer.content).nodes_info)
