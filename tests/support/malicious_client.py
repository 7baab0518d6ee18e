"""A malicious device as a real process: ``python malicious_client.py BUNDLE --data --profile``.

It connects with a real bundle through the real proxy, trains as an honest client does, and plays
one attack after the other; in between it is honest, so that it is not left out for good.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context, Message

sys.path.insert(0, str(Path(__file__).parents[1]))

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.data.files import DeviceData
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.fleet_api import Link
from fieldtune.client.node.node import LightNode
from fieldtune.client.node.state import ClientFolders, Status
from fieldtune.client.training.runtime import Sessions
from fieldtune.profiles.host.probe import probe
from support.forgeries import Forgery, fails, honest, huge_reply, huge_weights, says

ATTACKS: Mapping[tuple[str, int], Forgery] = {
    ("query.describe", 0): says("query.describe", board="Raspberry Pi Zero W Rev 1.1"),
    ("train", 0): huge_weights,
    ("train", 1): says("train", samples=10**9),
    ("train", 3): says("train", wall_s=1e30),
    ("train", 4): huge_reply(mib=12),
    ("evaluate", 5): says("evaluate", value=1e308),
    ("evaluate.variant", 0): fails("evaluate.variant", "\x1b[2J\x1b[31m\nerror: all is lost\r"),
}
"""What is asked and in which round -> what it makes of its reply."""
ROUNDS = 5


def attack_on(message_type: str, round: int) -> Forgery:
    """What it does to a message."""
    return ATTACKS.get((message_type, round), honest)


def main() -> None:
    """Work as a client until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--profile")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    bundle, data = Bundle.read(given.bundle), DeviceData(given.data)
    app = make_client_app(data, sessions=Sessions(2), board=probe())

    def lie(message: Message, context: Context) -> Message:
        reply = app(message, context)
        told = reply.content.config_records["message"]
        forge = attack_on(message.metadata.message_type, int(str(told.get("round", 0))))
        forge(message, reply.content)
        return reply

    folders = ClientFolders.of(bundle.name)
    with folders.locked():
        node = LightNode(
            Link(bundle.address, bundle.ca_certificate, bundle.private_key, bundle.certificate),
            lie,  # type: ignore[arg-type]
            {"name": bundle.name, "profile": given.profile},
            folders,
            Status(bundle.name, bundle.address, given.profile, os.getpid()),
        )
        signal.signal(signal.SIGTERM, lambda *_: node.stop())
        node.run()


if __name__ == "__main__":
    main()
