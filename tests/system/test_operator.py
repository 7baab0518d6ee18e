"""An operator's days with a fleet, by the commands of ``docs/deployment.md``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fieldtune.client import deployed
from support.commandline import in_this_process
from support.connect_proxy import connect_proxy
from support.deployment import Deployment, needs_nginx, wait_until
from support.studies import dealt_data, digits

pytestmark = [pytest.mark.system, needs_nginx]
NAMES = ("kitchen", "garage", "attic", "cellar", "porch")
OLD_CLIENT = """
import importlib.metadata

from fieldtune.client.contract import version

installed = importlib.metadata.version
importlib.metadata.version = lambda name: "0.1.0" if name == "fieldtune" else installed(name)
version.CONTRACT = 1
"""
"""Has Python start as if the last release of fieldtune were installed (``sitecustomize``)."""


class Operator:
    """A coordinator and five devices, and what their operator does."""

    def __init__(self, folder: Path) -> None:
        self.home = Deployment(folder)
        file = digits(folder, clients=5, trials=1, rounds=1)
        _replace(file, 'data = "digits"\n', 'data = "digits"\npartition = { kind = "iid" }\n')
        self.dealt = dict(zip(NAMES, dealt_data(file), strict=True))
        self.study = digits(folder, clients=4, trials=4, rounds=1, least=4)
        _replace(self.study, "choices = [8, 16]", "choices = [16]")
        # Encoded updates need clients of this release.
        encoded = '[space.client]\nupdate = { choices = ["float16"] }\n'
        _replace(self.study, "[space.client]\n", encoded)
        self.run = folder / "home"

    def fieldtune(self, *arguments: object, code: int = 0) -> str:
        """A command that ends with this exit code; all that it prints."""
        done = in_this_process(*map(str, arguments), cwd=self.home.folder)
        assert done.returncode == code, done.stderr + done.stdout
        return done.stderr + done.stdout

    def start(self, *names: str) -> None:
        """Start devices again, until they are connected."""
        for name in names:
            self.home.devices[name].log.unlink(missing_ok=True)
            self.home.devices[name].start()
        for name in names:
            self.home.devices[name].waits_to_say("connected to")

    def devices(self) -> dict[str, dict[str, object]]:
        """What ``fieldtune coordinator devices`` knows, by name."""
        out = self.home.run("coordinator", "devices", self.home.path, "--format", "json")
        return {str(each["device"]): each for each in json.loads(out)}

    def label(self, name: str, shift: int) -> None:
        """Samples that a device's owner labels later; shifted where something is wrong."""
        data, _ = self.dealt[name]
        fresh = self.home.folder / name / "data/fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        np.savez(fresh / "1.npz", x=data.train_x, y=(data.train_y + shift) % data.classes)

    def tested(self, *names: str) -> int:
        """Test samples of these devices."""
        return sum(len(self.dealt[name][0].test_y) for name in names)


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def told(run: Path) -> bool:
    """Whether a run has finished a trial."""
    file = run / "trials.csv"
    return file.exists() and len(file.read_text().splitlines()) > 1


@contextmanager
def ctrl_c_once(ready: Callable[[], bool]) -> Iterator[None]:
    """Press Ctrl-C in this process once something is ready."""

    def press() -> None:
        wait_until(ready, "the study has not begun")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """Its devices are connected: the cellar's with an old client, the garage's through a proxy."""
    found = Operator(tmp_path)
    found.home.init()
    for name in NAMES:
        found.home.device(name, *found.dealt[name])
    (tmp_path / "old").mkdir()
    (tmp_path / "old/sitecustomize.py").write_text(OLD_CLIENT)
    found.home.devices["cellar"].environment["PYTHONPATH"] = str(tmp_path / "old")
    with connect_proxy() as proxy:
        found.home.devices["garage"].environment |= proxy.environment
        with found.home.running():
            for device in found.home.devices.values():
                device.waits_to_say("connected to")
            for name, value in proxy.environment.items():
                monkeypatch.setenv(name, value)
            yield found
        # Devices used it, and no command that talks to SuperLink on this machine.
        assert set(proxy.asked) == {f"localhost:{found.home.port}"}


def test_the_days_of_an_operator(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    a_study_is_interrupted_and_resumed(operator)
    its_model_is_deployed(operator)
    # An application on the device, which does not know of what follows.
    monkeypatch.setenv("XDG_STATE_HOME", str(operator.home.folder / "kitchen/state"))
    model = deployed.load("kitchen")
    sample = operator.dealt["kitchen"][0].test_x[0]
    assert model.predict(sample).label in map(str, range(10))
    first = model.card

    again = the_study_is_tuned_again_when_its_data_have_drifted(operator)
    operator.fieldtune("deploy", again, "--superlink", operator.home.path, "--force")
    model.predict(sample)
    assert model.card.artefact != first.artefact

    the_coordinator_moves(operator)
    back = operator.fieldtune("rollback", "--superlink", operator.home.path)
    assert back.count("runs its earlier model again") == len(NAMES)
    model.predict(sample)
    assert model.card == first


def a_study_is_interrupted_and_resumed(operator: Operator) -> None:
    """Meanwhile a device is upgraded, one is replaced, and one is switched off."""
    home, run = operator.home, operator.run
    tune = ("tune", operator.study, "--superlink", home.path, "--out", run)
    with ctrl_c_once(lambda: told(run)):
        said = operator.fieldtune(*tune, code=130)
    assert "cellar is left out: its fieldtune is 0.1.0, and this study needs >= 0.2" in said
    assert "4 of 4 are here: attic (" in said
    assert "run the same command to resume" in said

    for name in ("cellar", "attic", "porch"):
        home.devices[name].end()
    del home.devices["cellar"].environment["PYTHONPATH"]
    home.run("coordinator", "remove", home.path, "attic")
    home.enroll("attic")
    operator.start("cellar", "attic")
    said = operator.fieldtune(*tune)
    assert "4 of 4 are here: attic (" in said
    assert "left out" not in said
    assert "no_reply" not in said
    card = json.loads((run / "models/trial-0000/card.json").read_text())
    assert card["data"]["source"] == "the devices' own data"
    assert (card["task"]["data"], card["data"]["devices"]) == (None, 4)
    # Its file is measured on the devices that had trained it and are still there.
    there = operator.tested("kitchen", "garage")
    assert card["variants"]["fp32"]["test_samples"] == there


def its_model_is_deployed(operator: Operator) -> None:
    """With a canary, and on a device that was off when it is back."""
    home = operator.home
    said = operator.fieldtune(
        "deploy", operator.run, "--superlink", home.path, "--canary", "10%", "--force"
    )
    assert said.startswith("first: ")
    assert said.count("runs the new model: error ") == 4
    assert f"porch: once connected, 'fieldtune deploy --superlink {home.path}'" in said
    operator.start("porch")
    said = operator.fieldtune("deploy", "--superlink", home.path)
    assert said.startswith("porch runs the new model: error ")


def the_study_is_tuned_again_when_its_data_have_drifted(operator: Operator) -> Path:
    """The new run's folder."""
    # One device's labels are shifted: it is named, and nothing else is proposed.
    for name in NAMES:
        operator.label(name, shift=5 if name == "garage" else 0)
    found = operator.devices()
    assert [name for name in NAMES if found[name]["outlier"]] == ["garage"]
    assert {each["retune"] for each in found.values()} == {None}
    # All drift: the command to tune again is printed, and works as it stands.
    for name in NAMES:
        operator.label(name, shift=5)
    (line,) = [
        line
        for line in operator.home.run("coordinator", "devices", operator.home.path).splitlines()
        if line.startswith("The data have drifted.")
    ]
    words = shlex.split(line.partition(": fieldtune ")[2])
    operator.home.run(*words, "--trials", "1", "--seed", "1")
    return operator.home.folder / "home-2"


def the_coordinator_moves(operator: Operator) -> None:
    """Into another folder, from a backup; the devices find it where it was."""
    home, backup = operator.home, operator.home.folder / "fleet.tar.gz"
    home.run("coordinator", "backup", home.path, backup)
    home.coordinator.end()
    shutil.rmtree(home.path)
    home.path = home.folder / "elsewhere"
    home.run("coordinator", "restore", backup, home.path)
    home.coordinator.arguments = ("coordinator", "start", home.path)
    home.start()
    for name, device in home.devices.items():
        wait_until(lambda d=device: d.said().count(" as node ") == 2, f"{name} is not back")
