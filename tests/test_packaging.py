"""What the distribution promises: one namespace, a light client, a wheel that works elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "keras", "optuna", "ray", "sklearn", "fieldtune.server")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_source_root_hides_its_siblings_with_an_init() -> None:
    assert not list(ROOT.glob("*/fieldtune/__init__.py"))
    assert len(list(ROOT.glob("*/fieldtune/*/__init__.py"))) == 4


@pytest.mark.parametrize(
    "module",
    ["fieldtune.client.node.client_app", "fieldtune.client.node.node", "fieldtune.client.cli"],
)
def test_importing_the_client_pulls_in_nothing_heavy(module: str, tmp_path: Path) -> None:
    code = (
        f"import {module}, sys; "
        f"print([m for m in {HEAVY!r} if m in sys.modules or any(n.startswith(m + '.') "
        "for n in sys.modules)])"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip() == "[]"


def test_the_base_requirements_hold_nothing_heavy() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = " ".join(project["dependencies"]).lower()
    assert not [name for name in ("tensorflow", "keras", "optuna", "ray") if name in names]


def test_every_pinned_file_has_a_hash_and_the_version_of_the_constraints() -> None:
    """``make lock`` writes the file anew."""
    import re
    import tomllib

    def name_of(text: str) -> str:
        return re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-").replace(".", "-")

    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text  # from wherever it comes, the hashes hold
    entries = re.findall(r"^(\S+)==(\S+).*((?:\n    --hash=sha256:[0-9a-f]{64}.*)*)", text, re.M)
    locked = {name_of(name): version for name, version, hashes in entries if hashes}
    assert len(locked) == len(entries) > 100
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for name, version in pinned.items():
        assert locked.get(name_of(name), version) == version, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for need in (*project["dependencies"], *extras["server"], *extras["privacy"]):
        assert name_of(need) in locked, need


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "fieldtune/__init__.py" not in names
    assert "fieldtune/profiles/device/catalogue/raspberry-pi-4b.toml" in names
    assert "fieldtune/simulations/datasets/fsdd_speakers.txt" in names
    assert "fieldtune/server/report/assets/page.html" in names
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    run(
        folder / "env/bin/pip", "install", "--quiet", "--disable-pip-version-check",
        "-c", ROOT / "constraints.txt", wheel, cwd=folder,
    )  # fmt: skip
    return folder


@pytest.mark.system
def test_the_wheel_runs_its_help_outside_the_checkout(elsewhere: Path) -> None:
    told = run(elsewhere / "env/bin/fieldtune", "--help", cwd=elsewhere)
    for command in ("tune", "check", "report", "export", "profiles", "client"):
        assert command in told


@pytest.mark.system
def test_the_wheel_imports_the_client_outside_the_checkout(elsewhere: Path) -> None:
    code = "import fieldtune.client.node.client_app as a; print(a.__file__)"
    file = run(elsewhere / "env/bin/python", "-c", code, cwd=elsewhere)
    assert "site-packages" in file


@pytest.mark.system
def test_a_base_install_is_a_device_that_examines_itself(elsewhere: Path) -> None:
    command = [elsewhere / "env/bin/fieldtune", "client", "doctor", "missing.bundle.toml"]
    done = subprocess.run(
        [*command, "--profile", "raspberry-pi-5"],
        cwd=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stdout + done.stderr
    assert "trains correctly" in done.stdout
    assert "missing.bundle.toml: cannot be read" in done.stdout
    assert "1 problem prevents this device from taking part" in done.stderr


@pytest.mark.system
def test_a_base_install_has_none_of_the_heavy_packages(elsewhere: Path) -> None:
    code = (
        "import importlib.util as u; "
        f"print([m for m in {HEAVY[:-1]!r} if u.find_spec(m) is not None])"
    )
    assert run(elsewhere / "env/bin/python", "-c", code, cwd=elsewhere).strip() == "[]"


@pytest.mark.system
def test_a_command_whose_extra_is_missing_says_what_mends_it(elsewhere: Path) -> None:
    study = ROOT / "simulations/studies/digits.toml"
    done = subprocess.run(
        [elsewhere / "env/bin/fieldtune", "tune", study],
        cwd=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'fieldtune[server]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (elsewhere / "runs").exists()


NOT_LOADED = (
    "uv",
    "sqlalchemy",
    "alembic",
    "greenlet",
    "uvloop",
    "wcwidth",
    "prompt_toolkit",
    "yaml",
)
"""What the documentation says may be uninstalled on a device."""


def test_a_client_works_without_what_it_never_loads(tmp_path: Path) -> None:
    code = f"""
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {NOT_LOADED!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import fieldtune.client.cli, fieldtune.client.node.run, fieldtune.client.node.node
import fieldtune.client.service.doctor, fieldtune.client.training.answer
print("loaded")
"""
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip() == "loaded"


def test_the_documentation_names_what_may_be_uninstalled() -> None:
    (line,) = re.findall(r"pip uninstall -y (.+)", (ROOT / "docs/device.md").read_text())
    assert sorted(line.lower().replace("pyyaml", "yaml").split()) == sorted(NOT_LOADED)
