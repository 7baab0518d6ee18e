"""Break a running deployment in one way after another, and see that each study ends as it should.

``python tests/system/faults.py [NAME...]`` takes minutes, since a network that is cut for a minute
takes a minute; each fault prints one line with what came of it. ``test_faults.py`` does the same in
short: several of them in one study, none for longer than it takes to be noticed.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from fieldtune.client.contract.bundle import Bundle
from fieldtune.server.deployment.certificates import Pair, make_device_key, make_server
from support.deployment import Deployment, Program, add_devices, run_script, wait_until
from support.full_disk import filled
from support.studies import digits

TRIALS = 6
Fault = Callable[[Deployment, Program, float], Program]
"""Breaks something for so many seconds; the study's program, which may be another one then."""


AWAY = "SuperLink does not answer: waiting for it"


@contextmanager
def noticed(study: Program) -> Iterator[None]:
    """Wait at the end until the study has said once more that SuperLink is away, or has ended."""
    before = study.said().count(AWAY)
    yield
    wait_until(lambda: study.said().count(AWAY) > before or study.ended(), f"no {AWAY!r}")


def superlink_killed(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """SuperLink is killed; its supervisor starts the coordinator again after a while."""
    with noticed(study):
        os.kill(deployment.coordinator.children()[0], signal.SIGKILL)
        assert deployment.coordinator.process is not None
        code = deployment.coordinator.process.wait(60)
        assert code == 7, code
        time.sleep(wait_s)
    deployment.start()
    return study


def study_killed(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """The study is killed, and run again after a while."""
    study.end(signal.SIGKILL)
    time.sleep(wait_s)
    again = Program(study.arguments, study.log)
    again.start()
    return again


def network_cut(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """The proxy says nothing, as if a cable were out."""
    proxy = deployment.coordinator.children()[1]
    workers = Path(f"/proc/{proxy}/task/{proxy}/children").read_text().split()
    for pid in (proxy, *map(int, workers)):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(wait_s)
    for pid in (proxy, *map(int, workers)):
        os.kill(pid, signal.SIGCONT)
    return study


def device_killed(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """A device's client is killed at its work and is back after a while."""
    device = deployment.devices["pi-0"]
    device.end(signal.SIGKILL)
    time.sleep(wait_s)
    device.start()
    return study


def device_gone(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """A device is stopped in good order and comes back after a while."""
    device = deployment.devices["pi-1"]
    device.end(signal.SIGTERM)
    time.sleep(wait_s)
    device.start()
    return study


def certificate_expired(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """The certificate ends while the coordinator is restarted; it is renewed after a while."""
    with noticed(study):
        deployment.coordinator.end()
        folder = deployment.opened()
        authority = Pair(folder.ca_certificate, (folder.path / "ca.key").read_text())
        expired = make_server(authority, ["localhost", "127.0.0.1"], days=-1)
        folder.write("server.key", expired.private_key)
        folder.write("server.crt", expired.certificate)
        refused = deployment.attempt("coordinator", "start", deployment.path)
        assert refused.returncode == 2, refused.stderr
        typer.echo(f"    {refused.stderr.strip()}")
        time.sleep(wait_s)
    deployment.run("coordinator", "renew", deployment.path)
    deployment.start()
    return study


def strangers_knock(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """One device with a copy of another's bundle, and one with a key that nobody enrolled."""
    known = deployment.opened().bundle_file("pi-0")
    private, public = make_device_key()
    unknown = Bundle.read(known).model_copy(
        update={"private_key": private, "public_key": public, "certificate": None}
    )
    strangers = []
    for name in ("copy", "unknown"):
        home = deployment.folder / f"{study.log.stem}-{name}"
        home.mkdir()
        bundle = home / known.name
        (Bundle.read(known) if name == "copy" else unknown).write(bundle)
        arguments = list(deployment.devices["pi-0"].arguments)
        arguments[2] = bundle
        strangers.append(Program(
            arguments, home / "client.log",
            {"XDG_RUNTIME_DIR": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        ))  # fmt: skip
    for stranger in strangers:
        stranger.start()
    try:
        for stranger in strangers:
            stranger.waits_to_say("not connected to")
        time.sleep(wait_s)
    finally:
        for stranger in strangers:
            stranger.end()
    for stranger in strangers:
        assert "as node" not in stranger.said(), stranger.said()
        (refused, *_) = [line for line in stranger.said().splitlines() if "not connected" in line]
        typer.echo(f"    {refused}")
    return study


def disk_full(deployment: Deployment, study: Program, wait_s: float) -> Program:
    """A device has no room to keep anything for a while, from its start."""
    device = deployment.devices["pi-1"]
    before = device.environment
    with filled(deployment.folder / f"{study.log.stem}-full") as full:
        device.end()
        device.environment = before | {"XDG_CACHE_HOME": str(full), "XDG_RUNTIME_DIR": str(full)}
        device.start()
        device.waits_to_say("an artefact cannot be cached: No space left on device")
        time.sleep(wait_s)
        device.end()
    device.environment = before
    device.start()
    return study


FAULTS: dict[str, tuple[Fault, float]] = {
    fault.__name__: (fault, wait_s)
    for fault, wait_s in (
        (superlink_killed, 15.0),
        (study_killed, 0.0),
        (network_cut, 60.0),
        (device_killed, 10.0),
        (device_gone, 40.0),
        (certificate_expired, 20.0),
        (strangers_knock, 20.0),
        (disk_full, 10.0),
    )
}


def states(run: Path) -> list[str]:
    """What became of a study's trials; AssertionError where one is missing or counted twice."""
    with (run / "trials.csv").open() as lines:
        trials = [(int(line["number"]), line["state"]) for line in csv.DictReader(lines)]
    assert [number for number, _ in trials] == list(range(len(trials)))
    return [state for _, state in trials]


def broken(name: str, deployment: Deployment, file: Path, folder: Path) -> str:
    """Run a study, break it after its first trial, and say how it ended."""
    run = folder / name
    log = folder / f"{name}.log"
    study = Program(("tune", file, "--superlink", deployment.path, "--out", run), log)
    study.start()
    try:
        study.waits_to_say("trial   0", 600)
        began = time.monotonic()
        fault, wait_s = FAULTS[name]
        study = fault(deployment, study, wait_s)
        assert study.process is not None
        code = study.process.wait(900)
        took = time.monotonic() - began
    finally:
        study.end()  # where this is interrupted
    found = states(run)
    right = code == 0 and found.count("completed") == TRIALS
    said = [line for line in log.read_text().splitlines() if line and "trial " not in line[:6]]
    for line in said:
        typer.echo(f"    {line[:150]}")
    return f"{'right' if right else 'WRONG'}: exit {code}, {found}, {took:.0f} s after it broke"


def main(names: list[str]) -> None:
    """Each fault in turn, in one deployment."""
    with tempfile.TemporaryDirectory(prefix="fieldtune-faults-") as scratch:
        folder = Path(scratch)
        deployment = Deployment(folder)
        file = digits(folder, clients=2, trials=TRIALS, rounds=4)
        deployment.init()
        add_devices(deployment, file)
        try:
            deployment.start()
            for device in deployment.devices.values():
                device.start()
            for name in names or FAULTS:
                typer.echo(f"{name}: {FAULTS[name][0].__doc__}")
                typer.echo(f"    {broken(name, deployment, file, folder)}")
        finally:
            deployment.end()


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
