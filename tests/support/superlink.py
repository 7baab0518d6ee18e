"""A real SuperLink for tests: Flower's own program, with TLS and node authentication, on loopback.

Its database is shared with the test, which plays the ServerApp: :class:`DatabaseGrid` is Flower's
Grid over that database, so a test needs no app bundle, no superexec and no third process.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.run import Run
from flwr.superlink.federation import NoOpFederationManager

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.node.fleet_api import identify_process, set_message_id
from support.identities import Server, key_pair, server

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
_SUPERLINK = 1
"""The node id of every SuperLink."""


_ports = itertools.count(20_000 + os.getpid() % 100 * 100)


def free_port() -> int:
    """A port of loopback that nobody uses, another for each call.

    It lies below those that the system gives to outgoing connections (32768 and up on Linux), of
    which one could take it before the test's own program does.
    """
    for port in _ports:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError  # the count has no end


@dataclass
class SuperLink:
    """A SuperLink in a folder; it can be killed and started again."""

    folder: Path
    identity: Server = field(default_factory=server)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _state: LinkState | None = None

    def __post_init__(self) -> None:
        for name, text in (
            ("ca.crt", self.identity.ca_certificate),
            ("server.pem", self.identity.certificate),
            ("server.key", self.identity.private_key),
        ):
            (self.folder / name).write_text(text)

    @property
    def address(self) -> str:
        """What devices connect to."""
        return f"localhost:{self.port}"

    @property
    def database(self) -> str:
        """Flower's SQLite database."""
        return str(self.folder / "superlink.db")

    def start(self) -> None:
        """Start it and wait until it answers."""
        files = {name: str(self.folder / name) for name in ("ca.crt", "server.pem", "server.key")}
        with (self.folder / "superlink.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("flower-superlink")),
                    "--host", "127.0.0.1", "--port", str(self.port),
                    "--ssl-ca-certfile", files["ca.crt"], "--ssl-certfile", files["server.pem"],
                    "--ssl-keyfile", files["server.key"],
                    "--enable-supernode-auth", "--isolation", "process",
                    "--database", self.database,
                ],
                stdout=log, stderr=log, cwd=self.folder,
                env=os.environ | QUIET | {"FLWR_HOME": str(self.folder / "flwr")},
            )  # fmt: skip
        give_up = time.monotonic() + 180
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError((self.folder / "superlink.log").read_text()[-3000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(
                f"https://localhost:{self.port}/",
                timeout=2,
                context=ssl._create_unverified_context(),
            )
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """As if the machine had lost power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def state(self) -> LinkState:
        """Flower's state, on the same database."""
        if self._state is None:
            with warnings.catch_warnings():
                # Flower's migrations use an option of Alembic that is on its way out.
                warnings.simplefilter("ignore", DeprecationWarning)
                store = ObjectStoreFactory(self.database)
                self._state = LinkStateFactory(
                    self.database, NoOpFederationManager(), store
                ).state()
        return self._state

    def enroll(self, name: str) -> Bundle:
        """Register a device."""
        bundle = self.bundle(name)
        key = load_ssh_public_key(bundle.public_key.encode())
        self.state().create_node(
            "<id:none>",
            "<name:none>",
            public_key_to_bytes(key),
            0,
            name=name,  # type: ignore[arg-type]
        )
        return bundle

    def bundle(self, name: str) -> Bundle:
        """A bundle whose key nobody has registered."""
        private, public = key_pair()
        return Bundle(
            name=name,
            address=self.address,
            ca_certificate=self.identity.ca_certificate,
            private_key=private,
            public_key=public,
        )


class DatabaseGrid(Grid):
    """Flower's Grid, straight on the SuperLink's database: one run of a coordinator."""

    def __init__(self, superlink: SuperLink) -> None:
        from flwr.common.constant import NOOP_FLWR_AID
        from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType

        self._state = superlink.state()
        self.run_id = self._state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (task,) = self._state.get_tasks(run_ids=[self.run_id])
        self._task = task.task_id
        assert self._state.claim_task(self._task)
        assert self._state.activate_task(self._task)
        self._run = Run.create_empty(self.run_id)
        identify_process(self.run_id, _SUPERLINK)

    def beat(self) -> bool:
        """Keep the run alive; False where it has ended."""
        return self._state.acknowledge_task_heartbeat(self._task)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the run alive meanwhile, whatever else is waited for."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(1.0):
                self.beat()

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return sorted(self._state.get_nodes(self.run_id))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        with no_object_id_recompute():
            for message in messages:
                set_message_id(message, message.object_id)
                session = self._state.start_session(self.run_id)
                stored, missing = self._state.store_message_and_object_tree(
                    remove_content_from_message(message), get_object_tree(message), session
                )
                assert stored
                for object_id, part in get_all_nested_objects(message).items():
                    if object_id in missing:
                        self._state.store_object(self.run_id, session, object_id, part.deflate())
                ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self.beat()
        replies = []
        for head in self._state.get_message_res(set(message_ids), self.run_id):
            if head.has_error():
                replies.append(head)
                continue
            tree = self._state.object_store.get_object_tree(head.metadata.message_id)
            contents = {
                each.object_id: self._content(each.object_id) for each in iterate_object_tree(tree)
            }
            reply = inflate_object_from_contents(head.metadata.message_id, contents)
            assert isinstance(reply, Message)
            replies.append(reply)
        return replies

    def _content(self, object_id: str) -> bytes:
        """A reply's head arrives before its content."""
        give_up = time.monotonic() + 30
        while not (content := self._state.get_object(self.run_id, object_id)):
            assert time.monotonic() < give_up, "the reply's content never arrived"
            time.sleep(0.02)
        return content

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        missing = set(self.push_messages(messages))
        give_up = time.monotonic() + (timeout or 60.0)
        replies: list[Message] = []
        while missing and time.monotonic() < give_up:
            pulled = self.pull_messages(missing)
            missing -= {reply.metadata.reply_to_message_id for reply in pulled}
            replies += pulled
            time.sleep(0.02)
        return replies
