"""Break a running deployment in one way after another, and see that each study ends as it should.

``python tests/network/faults.py [NAME...]``, not part of the tests: it takes minutes, since a
network that is cut for a minute takes a minute. Each fault prints one line with what came of it.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from commandline import ROOT
from fieldtune.server.network.certificates import Pair, make_server
from network.conftest import add_devices
from network.deployment import Deployment, Program

TRIALS = 6


def superlink_killed(deployment: Deployment, study: Program) -> Program:
    """SuperLink is killed; its supervisor starts the coordinator again after 15 s."""
    os.kill(deployment.coordinator.children()[0], signal.SIGKILL)
    assert deployment.coordinator.process is not None
    code = deployment.coordinator.process.wait(60)
    assert code == 7, code
    time.sleep(15)
    deployment.start()
    return study


def coordinator_machine_stopped(deployment: Deployment, study: Program) -> Program:
    """The study is killed and run again."""
    study.end(signal.SIGKILL)
    again = Program(study.arguments, study.log)
    again.start()
    return again


def network_cut(deployment: Deployment, study: Program) -> Program:
    """The proxy says nothing for 60 s, as if a cable were out."""
    proxy = deployment.coordinator.children()[1]
    workers = Path(f"/proc/{proxy}/task/{proxy}/children").read_text().split()
    for pid in (proxy, *map(int, workers)):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(60)
    for pid in (proxy, *map(int, workers)):
        os.kill(pid, signal.SIGCONT)
    return study


def device_killed(deployment: Deployment, study: Program) -> Program:
    """A device loses power at its work and is back after 10 s."""
    device = deployment.devices["pi-0"]
    device.end(signal.SIGKILL)
    time.sleep(10)
    device.start()
    return study


def device_gone(deployment: Deployment, study: Program) -> Program:
    """A device is stopped in good order and comes back after 40 s."""
    device = deployment.devices["pi-1"]
    device.end(signal.SIGTERM)
    time.sleep(40)
    device.start()
    return study


def certificate_expired(deployment: Deployment, study: Program) -> Program:
    """The certificate ends while the coordinator is restarted; it is renewed after 20 s."""
    deployment.coordinator.end()
    folder = deployment.opened()
    authority = Pair(folder.ca_certificate, (folder.path / "ca.key").read_text())
    expired = make_server(authority, ["localhost", "127.0.0.1"], days=-1)
    folder.write("server.key", expired.private_key)
    folder.write("server.crt", expired.certificate)
    refused = deployment.attempt("coordinator", "start", deployment.path)
    assert refused.returncode == 2, refused.stderr
    typer.echo(f"    {refused.stderr.strip()}")
    time.sleep(20)
    deployment.run("coordinator", "renew", deployment.path)
    deployment.start()
    return study


FAULTS: dict[str, Callable[[Deployment, Program], Program]] = {
    fault.__name__: fault
    for fault in (
        superlink_killed,
        coordinator_machine_stopped,
        network_cut,
        device_killed,
        device_gone,
        certificate_expired,
    )
}


def study_file(folder: Path) -> Path:
    """The digits on two devices, long enough to be broken in the middle."""
    text = (ROOT / "simulations/studies/digits.toml").read_text()
    for old, new in (
        ("trials = 40", f"trials = {TRIALS}"),
        ("rounds = 20", "rounds = 4"),
        ('model = ["mlp", "cnn"]', 'model = "mlp"\nvariants = ["fp32"]'),
        ("clients = 100", "clients = 2"),
        ('"raspberry-pi-zero-2w" = 0.4, ', ""),
        ('"raspberry-pi-4b" = 0.4, "raspberry-pi-5" = 0.2',
         '"raspberry-pi-4b" = 0.5, "raspberry-pi-5" = 0.5'),
        ('[limits."raspberry-pi-zero-2w"]\ninference_ms = 0.3\nenergy_j = 0.6\n', ""),
        ("low = 5, high = 30, default = 20", "low = 1, high = 2, default = 2"),
        ("round_s = 30", "round_s = 300"),
        ("choices = [8, 16, 32, 64], default = 32", "choices = [16]"),
        ("choices = [1, 2], default = 2", "choices = [1]"),
    ):  # fmt: skip
        assert old in text, old
        text = text.replace(old, new)
    file = folder / "digits.toml"
    file.write_text(text)
    return file


def broken(name: str, deployment: Deployment, file: Path, folder: Path) -> str:
    """Run a study, break it after its first trial, and say how it ended."""
    run = folder / name
    log = folder / f"{name}.log"
    study = Program(("tune", file, "--superlink", deployment.path, "--out", run), log)
    study.start()
    study.waits_to_say("trial   0", 600)
    began = time.monotonic()
    study = FAULTS[name](deployment, study)
    assert study.process is not None
    code = study.process.wait(900)
    took = time.monotonic() - began
    with (run / "trials.csv").open() as lines:
        trials = [(int(line["number"]), line["state"]) for line in csv.DictReader(lines)]
    states = [state for _, state in trials]
    right = (
        code == 0
        and [number for number, _ in trials] == list(range(len(trials)))
        and states.count("completed") == TRIALS
    )
    said = [line for line in log.read_text().splitlines() if line and "trial " not in line[:6]]
    for line in said:
        typer.echo(f"    {line[:150]}")
    return f"{'right' if right else 'WRONG'}: exit {code}, {states}, {took:.0f} s after it broke"


def main(names: list[str]) -> None:
    """Each fault in turn, in one deployment."""
    with tempfile.TemporaryDirectory(prefix="fieldtune-faults-") as scratch:
        folder = Path(scratch)
        deployment = Deployment(folder)
        file = study_file(folder)
        deployment.init()
        add_devices(deployment, file)
        try:
            deployment.start()
            for device in deployment.devices.values():
                device.start()
            for name in names or FAULTS:
                typer.echo(f"{name}: {FAULTS[name].__doc__}")
                typer.echo(f"    {broken(name, deployment, file, folder)}")
        finally:
            deployment.end()


if __name__ == "__main__":
    main(sys.argv[1:])
