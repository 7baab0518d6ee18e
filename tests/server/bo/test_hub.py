"""The sampler stands on four libraries alone, and is a package of its own for OptunaHub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration  # starts processes of their own

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = {"numpy", "scipy", "moocore", "optuna"}


def imported(folder: Path, module: str, *others: str) -> set[str]:
    """Top-level packages that a process has imported after a module, of the installed ones."""
    code = (
        f"import sys, {', '.join(others)}; before = set(sys.modules); import {module}\n"
        "from importlib.metadata import packages_distributions as installed\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new & {*installed(), 'fieldtune'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(done.stdout.split())


def test_importing_the_sampler_imports_four_libraries_and_what_these_import() -> None:
    of_libraries = imported(
        ROOT, "moocore, scipy.linalg, scipy.optimize, scipy.stats, optuna", "os"
    )
    assert imported(ROOT, "fieldtune.server.bo", "os") - of_libraries == {"fieldtune"}


def test_the_package_for_optunahub_needs_nothing_of_fieldtune(tmp_path: Path) -> None:
    build = [sys.executable, "simulations/hub/build.py", str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True, check=True, cwd=ROOT)
    package = Path(done.stdout.strip())
    assert package == tmp_path / "package/samplers/grey"
    files = {"README.md", "LICENSE", "requirements.txt", "example.py", "tests/test_sampler.py"}
    assert all((package / name).is_file() for name in files)
    assert set((package / "requirements.txt").read_text().split()) >= LIBRARIES - {"optuna"}
    assert "fieldtune" not in imported(package.parent, "grey", "os")
    study = (
        "import grey, optuna; optuna.logging.set_verbosity(40)\n"
        "study = optuna.create_study(sampler=grey.GreySampler(seed=0))\n"
        "study.optimize(lambda trial: trial.suggest_float('x', 0, 1) ** 2, n_trials=8)\n"
        "print(study.best_value < 0.01)"
    )
    done = subprocess.run(
        [sys.executable, "-c", study], capture_output=True, text=True, check=True,
        cwd=package.parent,
    )  # fmt: skip
    assert done.stdout.strip() == "True"
