"""The systemd unit: what systemd itself says of it, and what it may not see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.service import systemd as service_module
from fieldtune.client.service.systemd import Service, install, memory_limit_mib, systemd_version
from fieldtune.profiles.common.errors import FleetError, UsageError
from fieldtune.profiles.host.probe import probe
from support.identities import key_pair, server

NEEDS_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed: the unit is not checked by systemd here",
)
EXPOSED_AT_MOST = 2.5
"""Of 10, by `systemd-analyze security`; a service without settings has 9.6."""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "my data").mkdir()
    return Service(
        name="kitchen",
        python=Path(sys.executable),
        data=str(tmp_path / "my data"),
        profile="raspberry-pi-zero-2w",
        user=None,
        memory_mib=256,
        systemd=systemd_version(),
    )


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


@NEEDS_SYSTEMD
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"user": "daemon"},
        {"reports_power": True},
        {"data": "my.module:load", "directory": Path("/tmp")},
    ],
    ids=["made-up user", "user", "power", "function"],
)
def test_systemd_finds_nothing_wrong_with_the_unit(
    service: Service, tmp_path: Path, changes: dict[str, object]
) -> None:
    changed = replace(service, **changes)  # type: ignore[arg-type]
    (tmp_path / changed.unit).write_text(changed.text())
    said = analyze("verify", str(tmp_path / changed.unit))
    ours = [line for line in said.stderr.splitlines() if "fieldtune" in line]
    assert ours == []


@NEEDS_SYSTEMD
def test_systemd_counts_little_that_the_service_could_harm(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / service.unit).write_text(service.text())
    said = analyze("security", "--offline=true", str(tmp_path / service.unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert found, said.stdout + said.stderr
    assert float(found.group(1)) <= EXPOSED_AT_MOST


def test_the_command_survives_spaces_percent_signs_and_dollars(service: Service) -> None:
    text = replace(service, data='/srv/100% my "$data"').text()
    assert r'--data "/srv/100%% my \"$$data\"" --profile' in text


def test_homes_are_hidden_but_for_what_the_client_reads(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_HOME_FOLDERS", (tmp_path,))
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/usr/lib/python3"])
    text = service.text()
    assert "ProtectHome=tmpfs" in text
    bound = re.findall(r"BindReadOnlyPaths=(.*)", text)
    assert f'"{tmp_path}/my data"' in bound
    assert "/usr/lib/python3" not in bound


def test_the_back_off_of_restarts_is_left_out_where_systemd_does_not_know_it(
    service: Service,
) -> None:
    assert "RestartSteps" not in replace(service, systemd=252).text()
    assert "RestartSteps=6\nRestartMaxDelaySec=300" in replace(service, systemd=257).text()


def test_memory_is_a_share_of_the_boards_but_enough_to_work() -> None:
    def board(mib: float | None) -> int:
        return memory_limit_mib(replace(probe(), memory_total_mib=mib), None)

    assert (board(426.0), board(1848.0), board(200.0), board(None)) == (255, 1108, 192, 614)
    assert memory_limit_mib(probe(), 300) == 300


@pytest.fixture
def bundle() -> Bundle:
    private, public = key_pair()
    return Bundle(
        name="kitchen", address="host:1", ca_certificate=server().ca_certificate,
        private_key=private, public_key=public,
    )  # fmt: skip


def test_installing_keeps_the_bundle_for_root_alone_and_can_be_done_again(
    service: Service, bundle: Bundle, tmp_path: Path
) -> None:
    for _ in range(2):
        unit = install(service, bundle, tmp_path / "root")
        assert unit.read_text() == service.text()
        kept = tmp_path / "root/etc/fieldtune/kitchen.bundle.toml"
        assert kept.stat().st_mode & 0o777 == 0o600
        assert Bundle.read(kept) == bundle
    assert "LoadCredential=bundle:/etc/fieldtune/kitchen.bundle.toml" in service.text()


def test_only_root_installs(
    service: Service, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="only root can install a service: sudo"):
        install(service, bundle)


def test_nobody_is_installed_for_a_user_that_does_not_exist(
    service: Service, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match="no user is called 'nobody-here'"):
        install(replace(service, user="nobody-here"), bundle)
    assert not Path("/etc/systemd/system", service.unit).exists()


def test_without_systemd_the_command_that_starts_the_client_is_said_whole(
    service: Service, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(service_module, "_BOOTED", tmp_path / "none")
    monkeypatch.setattr(service_module, "_SETTINGS", tmp_path / "etc")
    monkeypatch.setattr(service_module, "_UNITS", tmp_path / "units")
    with pytest.raises(FleetError, match="systemd does not run this machine") as refused:
        install(service, bundle)
    kept, data = f"{tmp_path}/etc/kitchen.bundle.toml", f"'{service.data}'"
    command = f"client run {kept} --data {data} --profile raspberry-pi-zero-2w"
    assert str(refused.value).endswith(command)
