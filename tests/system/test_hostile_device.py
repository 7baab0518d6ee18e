"""What a device, or whoever reaches the device port, can do to the coordinator's machine."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.messages import TrainRequest
from fieldtune.client.node.fleet_api import Link, identify_process
from fieldtune.client.node.link_errors import (
    KeyRefusedError,
    LinkError,
    NotActivatedError,
    RunEndedError,
)
from fieldtune.client.node.tls import show_certificate
from fieldtune.server.deployment.nginx import OBJECTS_OF_A_DEVICE, OF_A_DEVICE
from fieldtune.server.deployment.superlink_control import register_devices
from fieldtune.server.devices.superlink_run import SuperLinkRun
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.flower_messages import describe_message, reported, request_message
from support.deployment import Deployment, needs_nginx, within

pytestmark = [pytest.mark.system, needs_nginx]
MIB = 2**20


def memory_mib(deployment: Deployment) -> float:
    """Private memory of all processes of the coordinator."""
    total, pids = 0, deployment.coordinator.children()
    for pid in pids:
        pids += [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in rollup if line.startswith("Private"))
    return total / 1024


def database_mib(deployment: Deployment) -> float:
    return sum(file.stat().st_size for file in deployment.path.glob("superlink.db*")) / MIB


@pytest.fixture
def device(deployment: Deployment) -> Iterator[tuple[Bundle, Link, int]]:
    bundle = Bundle.read(deployment.enroll("hostile"))
    link = Link(bundle.address, bundle.ca_certificate, bundle.private_key, bundle.certificate)
    yield bundle, link, link.activate()
    link.close()
    deployment.run("coordinator", "remove", deployment.path, "hostile")


def train_request() -> TrainRequest:
    return TrainRequest(
        trial=0, round=0, artefact="0" * 64, weights=np.zeros(610, np.float32), seed=0,
        batch_size=8, local_epochs=1, hyperparameter_names=(), hyperparameter_values=(),
    )  # fmt: skip


def test_a_reply_of_600_mib_is_refused_before_it_is_fetched(
    deployment: Deployment, device: tuple[Bundle, Link, int]
) -> None:
    _, link, node = device
    place, request = deployment.opened(), train_request()
    with place.in_use(), within(300):
        run = SuperLinkRun(place, lambda _: None)
        try:
            (asked,) = run.push([request_message(Addressed(0, request, b"m"), node, 300.0, True)])
            while (pending := link.pull(node)) is None:
                time.sleep(0.1)
            message = link.fetch(node, pending)
            huge = Array(np.random.default_rng(0).random(150 * MIB, np.float32))
            content = RecordDict(
                {
                    "message": ConfigRecord({"trial": 0, "round": 0, "samples": 1}),
                    "weights": ArrayRecord({"all": huge}),
                }
            )
            identify_process(message.metadata.run_id, node)
            reply = Message(content, reply_to=message)
            before = memory_mib(deployment), database_mib(deployment)

            def push() -> None:
                with suppress(LinkError):
                    link.push(node, reply, 1.0)

            pushing = threading.Thread(target=push)
            pushing.start()
            assert asked is not None
            while not (replies := run.pull([asked])):
                time.sleep(0.02)
            pushing.join()
        finally:
            run.close()
    report = reported(replies[0], request)
    assert report.failure == "implausible"
    assert "objects, at most 1.0 MiB were asked for" in report.detail
    # What comes in within a second is in memory until garbage is collected.
    assert memory_mib(deployment) - before[0] < 200
    assert database_mib(deployment) - before[1] < 100


def test_a_device_cannot_answer_for_another(
    deployment: Deployment, device: tuple[Bundle, Link, int]
) -> None:
    _, link, node = device
    bundle = Bundle.read(deployment.enroll("victim"))
    other = Link(bundle.address, bundle.ca_certificate, bundle.private_key, bundle.certificate)
    victim, place = other.activate(), deployment.opened()
    with place.in_use(), within(300):
        run = SuperLinkRun(place, lambda _: None)
        try:
            (asked,) = run.push([describe_message(victim, 300.0)])
            assert asked is not None
            while (pending := other.pull(victim)) is None:
                time.sleep(0.1)
            message = other.fetch(victim, pending)
            identify_process(message.metadata.run_id, victim)
            reply = Message(RecordDict(), reply_to=message)
            with pytest.raises(RunEndedError, match="error 403"):
                link.push(node, reply, 1.0)
            assert run.pull([asked]) == []
            other.push(victim, reply, 1.0)
            while not (replies := run.pull([asked])):
                time.sleep(0.1)
            assert replies[0].metadata.src_node_id == victim
        finally:
            run.close()
            other.close()
            deployment.run("coordinator", "remove", deployment.path, "victim")


def connected(bundle: Bundle) -> ssl.SSLSocket:
    """A connection to the proxy, with the device's certificate."""
    context = ssl.create_default_context(cadata=bundle.ca_certificate)
    assert bundle.certificate is not None
    show_certificate(context, bundle.certificate, bundle.private_key)
    host, _, port = bundle.address.partition(":")
    plain = socket.create_connection((host, int(port)), 20)
    return context.wrap_socket(plain, server_hostname=host)  # closes the other one too


def test_a_body_larger_than_a_call_needs_is_refused_and_moves_no_memory(
    deployment: Deployment, device: tuple[Bundle, Link, int]
) -> None:
    before = memory_mib(deployment)

    def answer(path: str, size: int) -> str:
        with connected(device[0]) as sent:
            head = f"POST /v1/fleet/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
            sent.sendall(head.encode())
            with suppress(OSError):  # the proxy closes without reading it
                for _ in range(size // MIB):
                    sent.sendall(bytes(MIB))
            with suppress(OSError):
                return sent.recv(99).decode().split("\r\n")[0]
        return ""

    for _ in range(20):
        answer("push-object", 60 * MIB)
    assert "413" in answer("push-messages", MIB)
    assert "413" in answer("push-object", 7 * MIB)
    assert memory_mib(deployment) - before < 50


def test_whoever_has_no_certificate_is_refused_after_the_headers_of_a_request(
    deployment: Deployment, device: tuple[Bundle, Link, int]
) -> None:
    bundle, _, _ = device
    old = bundle.model_copy(update={"certificate": None})
    context = ssl.create_default_context(cadata=bundle.ca_certificate)
    host, _, port = bundle.address.partition(":")
    before = memory_mib(deployment)
    link = Link(old.address, old.ca_certificate, old.private_key)
    with pytest.raises(LinkError, match="HTTP status 400"):
        link.activate()
    link.close()
    with (
        socket.create_connection((host, int(port)), 20) as plain,
        context.wrap_socket(plain, server_hostname=host) as sent,
    ):
        head = f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n\r\n"
        sent.sendall(head.encode())  # and no byte of the body
        assert b"400" in sent.recv(99)
    assert memory_mib(deployment) - before < 50


@pytest.mark.parametrize(
    ("path", "held"), [("push-messages", OF_A_DEVICE), ("push-object", OBJECTS_OF_A_DEVICE)]
)
def test_one_device_holds_only_so_many_requests_at_a_time(
    deployment: Deployment, device: tuple[Bundle, Link, int], path: str, held: int
) -> None:
    bundle, link, node = device
    head = f"POST /v1/fleet/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
    with ExitStack() as opened:
        sent = []
        for _ in range(held + 8):
            sent.append(opened.enter_context(connected(bundle)))
            sent[-1].sendall(head)  # and no byte of the body
        refused = [each for each in sent[held:] if b"429" in each.recv(99)]
        assert len(refused) == 8
    within_s = time.monotonic() + 20
    while True:  # the proxy notices the closed connections
        with suppress(LinkError):
            assert link.heartbeat(node)
            break
        assert time.monotonic() < within_s


def test_objects_that_come_slowly_move_no_memory(
    deployment: Deployment, device: tuple[Bundle, Link, int]
) -> None:
    size = 6 * MIB - 1000
    head = f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    before = memory_mib(deployment)
    with ExitStack() as opened:
        for _ in range(OF_A_DEVICE):
            sent = opened.enter_context(connected(device[0]))
            with suppress(OSError):  # refused
                sent.sendall(head.encode() + bytes(size - 1))  # the last byte never comes
        assert memory_mib(deployment) - before < 50


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(),
    reason="only root can become another user",
)
def test_another_user_of_the_coordinators_machine_gets_in_nowhere(deployment: Deployment) -> None:
    """As ``nobody``: over loopback, and in the folder."""
    code = f"""
import os, ssl, sys, urllib.error, urllib.request
os.setgid(65534); os.setuid(65534)
context = ssl._create_unverified_context()
paths = ["control/" + path for path in ("list-nodes", "register-node", "unregister-node",
                                          "start-run", "list-runs")]
paths += ["runtime/" + path for path in ("acquire-task", "pull-task-input", "push-messages",
                                           "pull-messages", "get-nodes", "pull-object")]
for path in paths:
    for spelt in ("/v1/", "//v1/", "/v1/fleet/../", "/v1/fieldtune/../"):
        asked = urllib.request.Request(
            "https://127.0.0.1:{deployment.superlink_port}" + spelt + path, data=b"",
            headers={{"content-type": "{PROTOBUF_MEDIA_TYPE}"}})
        try:
            print(urllib.request.urlopen(asked, context=context, timeout=20).status)
        except urllib.error.HTTPError as refused:
            print(refused.code)
try:
    print(len(os.listdir("{deployment.path}")))
except PermissionError:
    print(403)
"""
    done = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert set(done.stdout.split()) <= {"403", "404", "401"}, done.stdout + done.stderr
    assert done.stdout.split().count("403") >= 6
    assert deployment.opened().superlink_listens()


def test_a_renewed_device_keeps_its_number_and_its_old_bundle_is_worth_nothing(
    deployment: Deployment,
) -> None:
    first = Bundle.read(deployment.enroll("renewed"))
    number = {d.name: d.number for d in deployment.opened().devices()}["renewed"]
    deployment.run("coordinator", "enroll", deployment.path, "renewed", "--renew")
    second = Bundle.read(deployment.opened().bundle_file("renewed"))
    assert {d.name: d.number for d in deployment.opened().devices()}["renewed"] == number
    old, new = (
        Link(each.address, each.ca_certificate, each.private_key, each.certificate)
        for each in (first, second)
    )
    assert new.activate()
    with pytest.raises((NotActivatedError, KeyRefusedError)):
        old.activate()
    for link in (old, new):
        link.close()
    file = deployment.path / "devices/renewed.toml"
    kept = file.read_text()
    deployment.run("coordinator", "remove", deployment.path, "renewed")
    file.write_text(kept)  # the file of a removed device, restored from a backup
    (said,) = register_devices(deployment.opened())
    assert "renewed cannot connect: its key was removed" in said
    assert "--renew" in said
    deployment.run("coordinator", "enroll", deployment.path, "renewed", "--renew")
    assert register_devices(deployment.opened()) == []
    deployment.run("coordinator", "remove", deployment.path, "renewed")


def test_half_sent_requests_do_not_keep_devices_out(
    deployment: Deployment, device: tuple[Bundle, Link, int]
) -> None:
    bundle, link, node = device
    context = ssl.create_default_context(cadata=bundle.ca_certificate)
    host, _, port = bundle.address.partition(":")
    before, held = memory_mib(deployment), list[socket.socket]()
    try:
        for _ in range(1021):
            plain = socket.create_connection((host, int(port)), 20)
            with suppress(OSError):
                plain = context.wrap_socket(plain, server_hostname=host)
                plain.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n")
            held.append(plain)
            if len(held) % 100 == 0:
                assert link.heartbeat(node)
        assert link.heartbeat(node)
        assert memory_mib(deployment) - before < 50
        with within(120), suppress(ConnectionResetError):  # the proxy closes what is half sent
            while held[0].recv(99):
                pass
    finally:
        for each in held:
            each.close()
