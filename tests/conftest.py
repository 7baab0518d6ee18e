"""What the tests share: one artefact cache, and the command line as a user runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from commandline import COMMAND, ROOT, Command
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.compiler.service import CompileService

# What asserts for several test files, and is none itself.
pytest.register_assert_rewrite("fleet_contract", "network.recorded")

# CI checks the change at hand, with the same examples each time; a developer's run looks further.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def artefact_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this run's own, so that tests compile what they use and only once.

    Where pytest-xdist runs several processes, their folders lie beside each other, and this one.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    os.environ["FIELDTUNE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def fieldtune() -> Command:
    """Run ``fieldtune`` with these arguments; never raises."""

    def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
            env=os.environ | {"COLUMNS": "140"},
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits study in small: 8 trials of 5 rounds."""
    text = (ROOT / "simulations/studies/digits.toml").read_text()
    text = text.replace("trials = 40", "trials = 8").replace("rounds = 20", "rounds = 5")
    file = tmp_path_factory.mktemp("study") / "digits.toml"
    file.write_text(text)
    return file


@pytest.fixture(scope="session")
def mlp_artefact(artefact_cache: Path) -> Artefact:
    """The built-in MLP for 8x8 digits: 16 hidden units, trained by SGD with momentum."""
    with CompileService(ArtefactCache(artefact_cache)) as service:
        spec = ModelSpec("mlp", {"width": 16, "depth": 1}, (8, 8, 1), 10)
        return service.submit(spec).result()
