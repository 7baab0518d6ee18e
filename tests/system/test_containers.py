"""Dockerfile, compose file and cloud-init data: their steps, run here without containers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.deployment import Program, free_port

pytestmark = pytest.mark.system

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
FIELDTUNE = Path(sys.executable).with_name("fieldtune")


def test_the_steps_of_the_compose_file_bring_up_a_fleet(tmp_path: Path) -> None:
    services = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["services"]
    ports = {"--port": free_port(), "--superlink-port": free_port()}
    (script,) = services["setup"]["command"]
    here = script.replace("/opt/fieldtune/", f"{PACKAGING}/").replace(
        "--host coordinator",
        " ".join(["--host localhost", *(f"{k} {v}" for k, v in ports.items())]),
    )
    assert here.count("localhost") == 1
    for _ in range(2):  # as when the services are started a second time
        subprocess.run(
            [*services["setup"]["entrypoint"], here],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{FIELDTUNE.parent}:{os.environ['PATH']}"},
            check=True,
            timeout=300,
        )
    fleet = tmp_path / "fleet"
    coordinator = Program(
        ("coordinator", "start", fleet), tmp_path / "start.log", {"PYTHONUNBUFFERED": "1"}
    )
    assert services["coordinator"]["command"] == ["coordinator", "start", "fleet"]
    devices = [
        Program(
            ("client", *(_there(word, tmp_path) for word in services[name]["command"])),
            tmp_path / f"{name}.log",
            dict.fromkeys(services[name]["environment"], str(tmp_path / f"of-{name}")),
        )
        for name in ("kitchen", "garage")
    ]
    try:
        coordinator.start()
        for device in devices:
            device.start()
        coordinator.waits_to_say("Ready")
        for device in devices:
            device.waits_to_say("connected")
    finally:
        for program in [*devices, coordinator]:
            program.end()


def _there(word: str, folder: Path) -> str:
    return str(folder / word) if word.startswith(("fleet/", "samples/")) else word


def test_every_file_that_the_images_copy_exists() -> None:
    text = (PACKAGING / "Dockerfile").read_text()
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert copied
    assert not [name for name in copied if not (PACKAGING.parent / name).exists()]


HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint has no package for this machine")
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    subprocess.run([HADOLINT, str(PACKAGING / "Dockerfile")], check=True)


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="cloud-init is not installed")
def test_cloud_init_finds_nothing_wrong_with_its_data() -> None:
    subprocess.run(["cloud-init", "schema", "-c", str(PACKAGING / "cloud-init.yaml")], check=True)


def test_the_commands_of_the_cloud_init_data_exist() -> None:
    data = yaml.safe_load((PACKAGING / "cloud-init.yaml").read_text())
    (install,) = (line for line in data["runcmd"] if "client install" in line)
    words = install.split()
    assert words[1:3] == ["client", "install"]
    assert words[3] == data["write_files"][0]["path"]
    assert data["packages"] == ["python3-venv"]
