"""A coordinator, its proxy and two devices on loopback, by the commands that a user types."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from google.protobuf.message import Message as Proto

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.combined_calls import COLLECT, REPLY, SEND, TAKE, WAIT, Parts
from fieldtune.client.contract.messages import TrainReport
from fieldtune.client.node.link_errors import KeyRefusedError, NotActivatedError
from fieldtune.client.node.signatures import Signer
from fieldtune.server.deployment.certificates import make_device_key
from fieldtune.server.deployment.nginx import DEVICE_CALLS
from fieldtune.server.devices import command as tune
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.devices.superlink_run import SuperLinkRun
from fieldtune.server.federation.fleet import Reply
from fieldtune.server.federation.flower_messages import describe_message
from fieldtune.server.study.load import load_study
from fieldtune.simulations import commands as run
from fieldtune.simulations.datasets import load_dataset
from support import malicious_client
from support.deployment import Deployment, Program, needs_nginx, within, write_data
from support.device_port import call, enrolled_nodes, link
from support.fleet_contract import FleetContract, Opened
from support.malicious_client import ATTACKS, ROUNDS
from support.recorded import recorded
from support.studies import dealt_data, digits
from support.superlink import QUIET

pytestmark = [pytest.mark.system, needs_nginx]
ANY_CLIENT = True
"""Flower's own SuperNode takes part here, and has no certificate."""
NAMES = ("real", "simulated")


def test_a_study_on_devices_learns_what_its_simulation_learns_round_by_round(
    deployment: Deployment, fleet_study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with within(600), recorded(tune, "DeviceFleet") as real:
        tune.tune_on_devices(
            fleet_study, tmp_path / "real", deployment.path, trials=None, seed=None
        )
    said = capfd.readouterr().err
    with recorded(run, "SimulatedFleet") as simulated:
        run.tune_in_simulation(
            fleet_study, tmp_path / "simulated", trials=None, seed=None, workers=2
        )

    assert "4 of 4 are here: pi-0 (raspberry-pi-" in said
    assert sorted(real.weights) == [(trial, round) for trial in range(8) for round in range(4)]
    for before, after in ((real.weights, simulated.weights), (real.trained, simulated.trained)):
        assert sorted(before) == sorted(after)
        for key in before:
            np.testing.assert_allclose(before[key], after[key], rtol=0, atol=1e-5, err_msg=f"{key}")
    for trial in range(8):
        moved = np.abs(real.weights[trial, 3] - real.weights[trial, 0]).max()
        assert moved > 0.01, "nothing was trained"

    outcomes = [json.loads((tmp_path / name / "pareto.json").read_text()) for name in NAMES]
    assert [outcome["simulated"] for outcome in outcomes] == [False, True]
    assert [(each["trials"], each["failed"]) for each in outcomes] == [(8, 0), (8, 0)]
    # What they depend on is learned or known; only costs are corrected by what devices measure.
    fronts = [
        [(each["trial"], each["configuration"], each["objectives"]) for each in outcome["front"]]
        for outcome in outcomes
    ]
    assert fronts[0] == fronts[1]
    attempts = [
        [(each["configuration"], each["state"], each["objectives"]) for each in outcome["attempts"]]
        for outcome in outcomes
    ]
    assert attempts[0] == attempts[1]


@contextmanager
def malicious(deployment: Deployment, name: str) -> Iterator[None]:
    """Somebody has got hold of a device, whose bundle and data a malicious client uses."""
    honest = deployment.devices[name]
    honest.end()
    liar = Program(
        honest.arguments[2:],
        honest.log.with_name("malicious.log"),
        honest.environment,
        (sys.executable, malicious_client.__file__),
    )
    liar.start()
    try:
        liar.waits_to_say("connected to")
        yield
    finally:
        liar.end()
        honest.log.unlink()
        honest.start()
        honest.waits_to_say("connected to")


def test_a_malicious_device_is_named_and_the_study_is_that_of_the_others(
    deployment: Deployment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = digits(tmp_path, clients=4, trials=1, rounds=ROUNDS, least=4, metric="auc")
    with within(600), malicious(deployment, "pi-3"), recorded(tune, "DeviceFleet") as real:
        tune.tune_on_devices(study, tmp_path / "real", deployment.path, trials=None, seed=None)
    said = capfd.readouterr().err
    for words in (
        "pi-3 says that it is a raspberry-pi-",
        "but its firmware says 'Raspberry Pi Zero W Rev 1.1'",
        "round 0: report rejected as implausible (said once): its largest weight is 1e+20",
        "round 1: report rejected as implausible (said once): it reports 1000000000 training",
        "round 3: report rejected as implausible (said once): it reports wall_s = 1e+30",
        "round 4: report rejected as implausible (said once): a reply of",
        "round 5: report rejected as implausible (said once): it reports auc = 1e+308",
    ):
        assert (f"pi-3, trial 0 {words}" if words.startswith("round") else words) in said
    assert "\x1b[2J" not in said
    assert "sits out" not in said

    class Silent(run.SimulatedFleet):
        """The same fleet, of which the malicious client fails wherever it lies."""

        def receive(self, timeout_s: float) -> list[Reply]:
            return [self._without_lies(reply) for reply in super().receive(timeout_s)]

        def _without_lies(self, reply: Reply) -> Reply:
            report = reply.report
            kind = "train" if isinstance(report, TrainReport) else "evaluate"
            if reply.client != 3 or (kind, report.round) not in ATTACKS:
                return reply
            failed = {"trial": report.trial, "round": report.round, "failure": "bad_data"}
            return reply._replace(report=type(report).parse(failed))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SimulatedFleet", Silent)
        with recorded(run, "SimulatedFleet") as simulated:
            run.tune_in_simulation(study, tmp_path / "simulated", trials=None, seed=None, workers=1)
    assert sorted(real.weights) == sorted(simulated.weights)
    for key, weights in real.weights.items():
        np.testing.assert_allclose(weights, simulated.weights[key], rtol=0, atol=1e-5)
    outcomes = [json.loads((tmp_path / name / "pareto.json").read_text()) for name in NAMES]
    errors = [outcome["attempts"][0]["objectives"]["error"] for outcome in outcomes]
    assert errors[0] == pytest.approx(errors[1], abs=1e-3)
    assert sum(outcomes[0]["refused"]["pi-3"].values()) == 5


@pytest.fixture
def stock(deployment: Deployment, fleet_study: Path, tmp_path: Path) -> Iterator[Program]:
    """Flower's own SuperNode as one more device, with the data of the first."""
    bundle = Bundle.read(deployment.enroll("stock"))
    (tmp_path / "ca.crt").write_text(bundle.ca_certificate)
    (tmp_path / "key").write_text(bundle.private_key)
    write_data(tmp_path / "data", dealt_data(fleet_study)[0][0])
    programs = Path(sys.executable).parent
    node = Program(
        (
            "--root-certificates", tmp_path / "ca.crt", "--superlink", bundle.address,
            "--auth-supernode-private-key", tmp_path / "key", "--node-config",
            f'name="stock" profile="raspberry-pi-5" data="{tmp_path / "data"}"',
        ),
        tmp_path / "stock.log",
        {
            **QUIET,
            "FLWR_HOME": str(tmp_path / "flwr"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PATH": f"{programs}:{os.environ['PATH']}",  # it starts others of Flower's
        },
        command=[str(programs / "flower-supernode")],
    )  # fmt: skip
    node.start()
    yield node
    node.end()
    deployment.run("coordinator", "remove", deployment.path, "stock")


def test_flowers_own_supernode_takes_part_beside_light_nodes(
    deployment: Deployment, stock: Program, fleet_study: Path, tmp_path: Path
) -> None:
    study = digits(tmp_path, clients=5, trials=1, rounds=1, least=5)
    with within(600), recorded(tune, "DeviceFleet") as seen:
        tune.tune_on_devices(study, tmp_path / "run", deployment.path, trials=None, seed=None)
    numbers = {device.name: device.number for device in deployment.opened().devices()}
    light = [data for data, _ in dealt_data(fleet_study)]
    data = dict(enumerate(light)) | {numbers["stock"]: light[0]}
    assert {client for _, _, client in seen.trained} == set(data)
    seen.check_training(data)
    assert [report.failure for _, report in seen.reports] == [None] * 3 * len(data)


@pytest.fixture(scope="class")
def opened(deployment: Deployment, fleet_study: Path) -> Iterator[Opened]:
    place = deployment.opened()
    with place.in_use():
        fleet = DeviceFleet(
            lambda: SuperLinkRun(place, lambda _: None),
            {device.name: device.number for device in place.devices()},
            profiles=load_study(fleet_study).fleet.devices,
            wanted=4,
            notes=lambda _: None,
            sign=Signer(place.authority_key),
        )
        try:
            yield Opened.of(fleet, fleet_study)
        finally:
            fleet.close()


class TestDeviceFleet(FleetContract):
    pass


@pytest.mark.parametrize("path", [f"/v1/fleet/{name}" for name in DEVICE_CALLS])
def test_what_a_device_calls_reaches_superlink_and_wants_a_signature(
    deployment: Deployment, path: str
) -> None:
    assert call(deployment, path, ActivateNodeRequest()) == 401


@pytest.mark.parametrize("path", [WAIT, TAKE, REPLY])
def test_so_does_a_combined_call(deployment: Deployment, path: str) -> None:
    assert call(deployment, path, Parts(b"", b"1")) == 401


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/v1/control/register-node", RegisterNodeRequest(public_key=b"x")),
        ("/v1/control/list-nodes", ListNodesRequest()),
        ("/v1/control/start-run", StartRunRequest()),
        (SEND, ListNodesRequest()),
        (COLLECT, ListNodesRequest()),
        ("/v1/runtime/acquire-task", AcquireTaskRequest(supported_task_types=["flwr-serverapp"])),
        ("/v1/fleet/register-node", RegisterNodeFleetRequest(public_key=b"x")),
        ("/v1/fleet/unregister-node", ListNodesRequest()),
        ("/v1/fleet/../control/list-nodes", ListNodesRequest()),
        ("/v1/fleet/..%2fcontrol/list-nodes", ListNodesRequest()),
        ("/v1/fleet/%2e%2e/control/list-nodes", ListNodesRequest()),
        ("/v1/fleet/activate-node/../../control/list-nodes", ListNodesRequest()),
        ("//v1/control/list-nodes", ListNodesRequest()),
        ("/v1/control/list-nodes?/v1/fleet/activate-node", ListNodesRequest()),
        ("/v1/control/list-nodes%3f/../../fleet/activate-node", ListNodesRequest()),
        ("/v1/control/list-nodes;/../../fleet/activate-node", ListNodesRequest()),
        ("/docs", ListNodesRequest()),
        ("/", ListNodesRequest()),
    ],
)
def test_whoever_reaches_the_device_port_can_neither_register_a_key_nor_run_code(
    deployment: Deployment, path: str, request_: Proto
) -> None:
    before = [node.name for node in enrolled_nodes(deployment)]
    # 401 where a path is a device's call in disguise: it wants a device's signature.
    assert call(deployment, path, request_) in (400, 401, 404)
    assert [node.name for node in enrolled_nodes(deployment)] == before


def test_these_calls_would_succeed_on_the_port_that_the_proxy_hides(deployment: Deployment) -> None:
    """So the test above tests the proxy and not a misspelt path."""
    assert {"pi-0", "pi-1"} <= {node.name for node in enrolled_nodes(deployment)}


def test_superlink_listens_on_loopback_alone(deployment: Deployment) -> None:
    sockets = (
        subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=False).stdout
        or Path("/proc/net/tcp").read_text()
    )
    hexadecimal = f"0100007F:{deployment.superlink_port:04X}"
    assert f"127.0.0.1:{deployment.superlink_port}" in sockets or hexadecimal in sockets
    assert f"0.0.0.0:{deployment.superlink_port}" not in sockets
    assert f"00000000:{deployment.superlink_port:04X}" not in sockets


def test_a_key_that_nobody_enrolled_is_refused(deployment: Deployment) -> None:
    known = Bundle.read(deployment.path / "bundles/pi-0.bundle.toml")
    private, _ = make_device_key()
    with link(known, private) as stranger, pytest.raises(NotActivatedError):
        stranger.activate()


def test_a_second_device_with_the_same_key_does_not_get_in(deployment: Deployment) -> None:
    known = Bundle.read(deployment.path / "bundles/pi-0.bundle.toml")
    deployment.devices["pi-0"].waits_to_say("connected to")
    with link(known) as second, pytest.raises(NotActivatedError):
        second.activate()


def test_a_device_may_be_enrolled_while_the_coordinator_runs_and_removed_again(
    deployment: Deployment,
) -> None:
    bundle = Bundle.read(deployment.enroll("late"))
    with link(bundle) as late:
        node = late.activate()
        listed = deployment.run("coordinator", "devices", deployment.path)
        assert "late has not answered in time" not in listed
        rows = [line.split()[1:] for line in listed.splitlines()]
        assert [row for row in rows if row[:1] == ["late"]] == [["late", "now", "-", "-", "-"]]
        deployment.run("coordinator", "remove", deployment.path, "late")
        with pytest.raises(KeyRefusedError):  # also while it is connected
            late.pull(node)
        with pytest.raises((NotActivatedError, KeyRefusedError)):
            late.activate()


def test_one_study_at_a_time_has_the_devices(
    deployment: Deployment, fleet_study: Path, tmp_path: Path
) -> None:
    with deployment.opened().in_use():
        done = deployment.attempt(
            "tune", fleet_study, "--superlink", deployment.path, "--out", tmp_path / "run"
        )
    assert done.returncode == 2
    assert "Another study or deployment uses the devices" in done.stderr


def test_a_run_outlives_a_database_that_others_keep_busy(deployment: Deployment) -> None:
    """SuperLink waits 5 s for its turn to write, then answers that it has failed (status 500)."""
    place = deployment.opened()
    deployment.devices["pi-0"].waits_to_say("connected to")
    database = sqlite3.connect(deployment.path / "superlink.db", check_same_thread=False)
    with place.in_use(), closing(database):
        run = SuperLinkRun(place, lambda _: None)
        free = threading.Timer(8.0, database.rollback)
        try:
            question = describe_message(run.nodes()[0].node_id, 60.0)
            database.execute("BEGIN IMMEDIATE")
            free.start()
            (asked,) = run.push([question])
            assert asked is not None
            with within(60.0):
                while not (replies := run.pull([asked])):
                    time.sleep(0.2)
            assert not replies[0].has_error()
        finally:
            free.join()
            run.close()


def test_the_coordinator_runs_once(deployment: Deployment) -> None:
    done = deployment.attempt("coordinator", "start", deployment.path)
    assert done.returncode == 2
    assert "is running already" in done.stderr


def test_what_superlink_writes_is_for_its_owner(deployment: Deployment) -> None:
    for name in ("superlink.db", "server.key", "ca.key", "executor.key", "nginx.conf"):
        mode = (deployment.path / name).stat().st_mode
        assert stat.S_IMODE(mode) & 0o077 == 0, name
    assert stat.S_IMODE(deployment.path.stat().st_mode) == 0o700


def test_the_devices_have_kept_their_data(deployment: Deployment) -> None:
    """No sample of the task is in what SuperLink stored."""
    image = load_dataset("digits").x[0].tobytes()
    for file in deployment.path.glob("superlink.db*"):
        assert image not in file.read_bytes()
