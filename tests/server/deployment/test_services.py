"""What runs on the coordinator: nginx, systemd units, SuperLink and who may call it."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.nginx import nginx_configuration
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.deployment.superlink_process import ControlKey
from fieldtune.server.deployment.systemd import UNIT, systemd_unit

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = Settings(hosts=("coordinator.local",), port=8443, superlink_port=18443)


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(tmp_path / "fleet", SETTINGS)


@pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin") is None,
    reason="nginx is not installed (apt-get install nginx-light), so its configuration is unread",
)
def test_nginx_understands_its_configuration(folder: CoordinatorFolder) -> None:
    file = folder.path / "nginx.conf"
    file.write_text(nginx_configuration(folder.path, SETTINGS, ipv6=False))
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    done = subprocess.run(
        [str(nginx), "-t", "-e", str(folder.path / "logs/x"), "-c", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


NEEDS_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed, so the unit is unread",
)


@NEEDS_SYSTEMD
def test_systemd_understands_the_units_in_the_documentation(tmp_path: Path) -> None:
    text = (ROOT / "docs/deployment.md").read_text()
    named = r"`(?:/etc/systemd/system/)?(fieldtune-(?:watch|tune)\.\w+)`[^\n]*\n\n```\n(.+?)```"
    units = dict(re.findall(named, text, re.DOTALL))
    assert set(units) == {
        "fieldtune-watch.service",
        "fieldtune-tune.service",
        "fieldtune-tune.timer",
    }
    for name, unit in units.items():
        installed = unit.replace("/var/lib/fieldtune/venv/bin/fieldtune", str(shutil.which("true")))
        (tmp_path / name).write_text(installed)
    files = [str(tmp_path / name) for name in units]
    done = subprocess.run(
        ["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False
    )
    assert "fieldtune" not in done.stderr, done.stderr


@NEEDS_SYSTEMD
@pytest.mark.parametrize(("port", "user"), [(443, "daemon"), (8443, "daemon"), (8443, "root")])
def test_systemd_understands_the_unit(folder: CoordinatorFolder, port: int, user: str) -> None:
    command = shutil.which("true")
    assert command is not None
    unit = folder.path / UNIT
    unit.write_text(systemd_unit(folder.path, command=Path(command), user=user, port=port))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert UNIT not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"path": "/v1/control/list-nodes", "headers": []}, 403),
        ({"path": "/v1/control/list-nodes", "headers": [(b"x-fieldtune-control-key", b"no")]}, 403),
        ({"path": "/v1/control/list-nodes", "headers": [(b"x-fieldtune-control-key", b"k")]}, 200),
        ({"path": "/v1/fleet/pull-messages", "headers": []}, 200),
        ({"path": "/v1/runtime/acquire-task", "headers": []}, 200),
        ({"path": "/v1/fleet", "headers": []}, 403),
        ({"path": "/", "headers": []}, 403),
    ],
)
def test_superlinks_control_calls_need_the_folders_key(scope: dict[str, Any], status: int) -> None:
    said: list[int] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        said.append(200)

    async def send(event: Any) -> None:
        said.append(event.get("status", 0))

    asyncio.run(ControlKey(inside, "k")({"type": "http", **scope}, inside, send))  # type: ignore[arg-type]
    assert said[0] == status
