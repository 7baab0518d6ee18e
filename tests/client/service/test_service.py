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
from fieldtune.client.node.proxy import checked_proxy, proxy_to, proxy_to_install
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
        {"proxy": "http://user:100%25@proxy.local:3128"},
    ],
    ids=["made-up user", "user", "power", "function", "proxy"],
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


def test_a_proxys_password_reaches_the_service_in_a_file_that_others_cannot_read(
    service: Service, bundle: Bundle, tmp_path: Path
) -> None:
    secret = "http://user:pa%25ss$word@proxy.local:3128"
    unit = install(replace(service, proxy=secret), bundle, tmp_path)
    assert "ss$word" not in unit.read_text()
    assert "\nEnvironmentFile=/etc/fieldtune/kitchen.env\n" in unit.read_text()
    kept = tmp_path / "etc/fieldtune/kitchen.env"
    assert kept.read_text() == f"HTTPS_PROXY='{secret}'\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    unit = install(service, bundle, tmp_path)  # without a proxy
    assert "EnvironmentFile" not in unit.read_text()
    assert not kept.exists()


@pytest.mark.parametrize(
    "url", ["proxy.local:3128", "socks5://p:1", "ftp://p", "http://p:port", "http://", "http://a b"]
)
def test_what_is_no_http_proxy_is_a_sentence(url: str) -> None:
    with pytest.raises(UsageError, match="give the URL of an HTTP proxy"):
        checked_proxy(url, "--proxy")


@pytest.mark.parametrize(
    ("option", "variable", "named"),
    [
        ("socks5://u:secret@p:1", "http://p:1", "--proxy"),
        ("u:secret@p:1", "http://p:1", "--proxy"),
        ("http://u:pa/secret@p:1", "http://p:1", "--proxy"),
        (None, "socks5://p:1", "$HTTPS_PROXY"),
    ],
)
def test_a_wrong_proxy_is_said_to_be_of_where_it_comes_from_and_without_its_password(
    option: str | None, variable: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", variable)
    with pytest.raises(UsageError) as refused:
        proxy_to_install(option)
    assert str(refused.value).startswith(f"{named} is '")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_wrong_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(variable, "socks5://p:1")
    with pytest.raises(UsageError, match=re.escape(f"${variable} is 'socks5://p:1'")):
        proxy_to("coordinator.local")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://proxy.local:3128", ("proxy.local", 3128)),
        ("proxy.local:3128", ("proxy.local", 3128)),  # as curl takes it
        ("https://u:p@proxy.local/", ("proxy.local", 443)),
        ("", None),
    ],
)
def test_the_proxy_is_that_of_the_environment(
    url: str, found: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"HTTPS_PROXY": url, "NO_PROXY": "coordinator.local"})
    assert proxy_to("elsewhere.local") == found
    assert bool(proxy_to_install(None)) == bool(found)
    assert proxy_to("coordinator.local") is None


def test_what_the_owner_allows_is_in_the_unit(service: Service) -> None:
    allowed = replace(service, privacy=("noise=3", "metrics=accuracy, auc"))
    (start,) = [line for line in allowed.text().splitlines() if line.startswith("ExecStart=")]
    assert start.endswith('--privacy noise=3 --privacy "metrics=accuracy, auc"')
