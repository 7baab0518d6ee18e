"""What ``fieldtune client`` says of a device, as its owner reads it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.node.state import Status
from fieldtune.client.service import doctor
from fieldtune.client.service.doctor import examine
from fieldtune.client.service.finding import Finding
from support.answering import answering
from support.commandline import in_this_process
from support.connect_proxy import connect_proxy
from support.identities import Server, key_pair, make_server, server


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/a.npz", x=np.zeros((8, 3)), y=np.arange(8) % 2)
    return str(tmp_path / "data")


def bundle_for(port: int, folder: Path, identity: Server | None = None) -> Path:
    private, public = key_pair()
    bundle = Bundle(
        name="kitchen",
        address=f"localhost:{port}",
        ca_certificate=(identity or server()).ca_certificate,
        private_key=private,
        public_key=public,
    )
    bundle.write(folder / "kitchen.bundle.toml")
    return folder / "kitchen.bundle.toml"


def found(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def client(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return in_this_process("client", *arguments)


def test_a_device_with_nobody_to_talk_to_is_told_so(tmp_path: Path, data: str) -> None:
    said = found(examine(bundle_for(1, tmp_path), data, "raspberry-pi-5"))
    assert "trains correctly" in said["runtime"].message
    assert "6 training and 2 test samples" in said["data"].message
    assert said["network"].blocking
    assert "Connection refused" in said["network"].message
    assert "certificate" not in said


def test_an_expired_certificate_is_told_with_todays_date(tmp_path: Path) -> None:
    expired = make_server(days_left=-1)
    with answering(tmp_path, 200, identity=expired) as port:
        said = found(examine(bundle_for(port, tmp_path, expired), None, "raspberry-pi-5"))
    assert "certificate has expired (today is 20" in said["certificate"].message
    assert said["certificate"].blocking


def test_a_certificate_that_expires_soon_is_a_warning(tmp_path: Path) -> None:
    soon = make_server(days_left=3.5)
    with answering(tmp_path, 412, b'{"code": 2004}', identity=soon) as port:
        said = found(examine(bundle_for(port, tmp_path, soon), None, "raspberry-pi-5"))
    assert said["certificate"].message == "valid for 3 more days"
    assert said["certificate"].remedy is not None
    assert not said["certificate"].blocking
    assert "does not accept this device" in said["admission"].message


def test_a_wrong_clock_and_a_refused_key_are_told(tmp_path: Path) -> None:
    with answering(tmp_path, 401, b"{}", ahead_s=600) as port:
        said = found(examine(bundle_for(port, tmp_path), None, "raspberry-pi-5"))
    assert "behind the coordinator's" in said["clock"].message
    assert said["admission"].message == "its clock is 10 minutes behind the coordinator's"
    assert said["admission"].remedy == "start NTP with 'timedatectl set-ntp true', or set it"


def test_a_board_whose_clock_stood_still_is_told_so_and_not_that_the_certificate_is_wrong(
    tmp_path: Path,
) -> None:
    other_day = make_server(days_left=-1)  # as a clock sees it that is a year ahead
    with answering(tmp_path, 200, identity=other_day, ahead_s=-365 * 86400) as port:
        said = found(examine(bundle_for(port, tmp_path, other_day), None, "raspberry-pi-5"))
    assert said["clock"].message == "its clock is 365 days ahead of the coordinator's"
    assert said["clock"].remedy is not None
    assert "certificate" not in said


@pytest.mark.parametrize("refuses", [False, True])
def test_behind_a_proxy_the_coordinator_is_examined_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    unknown = b'{"code": 2004}'
    with answering(tmp_path, 412, unknown) as port, connect_proxy(refuses=refuses) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        said = found(examine(bundle_for(port, tmp_path), None, "raspberry-pi-5"))
    assert set(proxy.asked) == {f"localhost:{port}"}
    if refuses:
        why = f"the HTTP proxy does not connect to localhost:{port}: 403 Forbidden"
        assert said["network"].message == why
        assert said["network"].remedy == "have it allow CONNECT to there, or check $HTTPS_PROXY"
        assert "admission" not in said
    else:
        assert said["network"].message.startswith("the HTTP proxy 127.0.0.1:")
        assert said["clock"].remedy is None
        assert "does not accept this device" in said["admission"].message


def test_what_is_no_proxy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.local:1080")
    file = bundle_for(1, tmp_path)
    said = found(examine(file, None, "raspberry-pi-5"))
    assert said["network"].remedy is not None
    assert said["network"].remedy.startswith("give the URL of an HTTP proxy")
    done = client("run", file, "--data", tmp_path, "--profile", "raspberry-pi-5")
    assert done.returncode == 2
    assert "'socks5://proxy.local:1080': give the URL of an HTTP proxy" in done.stderr


def test_bad_data_a_short_board_and_a_readable_bundle_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bundle_for(1, tmp_path)
    file.chmod(0o644)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 426000 kB\nMemAvailable: 51200 kB\n")
    said = found(examine(file, str(tmp_path / "nothing"), "raspberry-pi-zero-2w", root=tmp_path))
    assert "does not exist" in said["data"].message
    assert said["memory"].message.startswith("50 MiB free")
    assert said["bundle"].remedy == f"chmod 600 {file}"
    assert not said["bundle"].blocking


def test_the_doctor_ends_with_what_keeps_the_device_out(tmp_path: Path, data: str) -> None:
    file = bundle_for(1, tmp_path)
    done = client("doctor", file, "--data", data, "--profile", "raspberry-pi-5")
    assert "INFO" not in done.stderr
    assert done.returncode == 7
    assert "✗ network" in done.stdout
    assert "1 problem prevents this device from taking part" in done.stderr
    assert "Traceback" not in done.stderr
    done = client("doctor", file, "--data", data, "--profile", "raspberry-pi-5", "--format", "json")
    assert done.returncode == 7
    failed = [
        each["topic"] for each in json.loads(done.stdout) if not each["ok"] and each["blocking"]
    ]
    assert failed == ["network"]


def test_install_can_show_its_unit_and_touch_nothing(tmp_path: Path, data: str) -> None:
    file = bundle_for(1, tmp_path)
    done = client("install", file, "--data", data, "--profile", "raspberry-pi-5", "--print")
    assert done.returncode == 0, done.stderr
    assert f"run %d/bundle --data {data} --profile raspberry-pi-5" in done.stdout
    bad = client("install", file, "--data", tmp_path / "x", "--profile", "raspberry-pi-5")
    assert bad.returncode == 2
    assert "does not exist" in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "missing.toml", "--data", "."], "missing.toml: cannot be read"),
        (["run", "BUNDLE", "--data", ".", "--profile", "raspberry-pi-6"], "raspberry-pi-6"),
        (["doctor"], "Missing argument 'BUNDLE'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    file = str(bundle_for(1, tmp_path))
    done = client(*[file if each == "BUNDLE" else each for each in arguments])
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_status_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    assert "no client runs on this machine" in client("status").stderr
    for name, pid in (("alive", os.getpid()), ("dead", 2**22 + 1)):
        folder = tmp_path / "run/fieldtune" / name
        folder.mkdir(parents=True)
        status = Status(name, "host:1", "raspberry-pi-5", pid, "connected", last="train: done")
        (folder / "status.json").write_text(json.dumps(asdict(status)))
    said = client("status").stdout
    assert "alive connected" in said
    assert "dead ended unexpectedly" in said
    assert "train: done" in said
    told = json.loads(client("status", "--format", "json").stdout)
    assert [(each["name"], each["ended"]) for each in told] == [("alive", False), ("dead", True)]


def test_the_runtimes_notices_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def step() -> Finding:
        os.write(2, b"INFO: Created a delegate.\nWARNING: a leak\n")
        return Finding("runtime", "trains correctly")

    monkeypatch.setattr(doctor, "_runtime_and_step", step)
    assert "runtime" in found(examine(bundle_for(1, tmp_path), None, "raspberry-pi-5"))
    assert capfd.readouterr().err == "WARNING: a leak\n"
