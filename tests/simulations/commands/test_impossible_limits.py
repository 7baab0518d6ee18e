"""Limits that nothing keeps are told with the values that suffice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fieldtune.server.compiler import service
from support.commandline import Command
from support.compiling import SharedChild
from support.studies import changed

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "limits",
    [
        "[limits]\ninference_ms = 0.0001",
        '[limits]\nenergy_j = 1e-9\n[limits."raspberry-pi-5"]\ninference_ms = 0.00001',
        "[limits]\nround_s = 1e-9\ncoverage = 0.5",
    ],
)
def test_impossible_limits_are_told_with_the_value_that_suffices(
    limits: str, fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    old = re.search(r"\[limits\]\n(?:[a-z_]+ = .*\n)+", small_study.read_text())
    assert old
    file = changed(small_study, tmp_path, old[0], limits + "\n")
    done = fieldtune("check", file)
    assert done.returncode == 3, done.stderr
    assert "Warning" not in done.stderr
    (error,) = (line for line in done.stderr.splitlines() if "error:" in line)
    least, would_do = error.split("the closest would do with")
    told = re.findall(r"limits\.(\S+) = (\S+) \(it is (\S+)\)", would_do)
    assert "is needed by one without weights and operations" in least
    mended = with_caps(file.read_text(), told)
    file.write_text(mended)
    done = fieldtune("check", file)
    assert done.returncode == 0, done.stderr
    # A little less would not do.
    value = told[0][1]
    file.write_text(mended.replace(f"= {value}", f"= {0.98 * float(value):.12f}", 1))
    assert fieldtune("check", file).returncode == 3


def with_caps(text: str, told: list[tuple[str, str, str]]) -> str:
    """A study file with the limits that suffice."""
    for name, value, before in told:
        key = name.rpartition(".")[2]
        same = [each for each in re.findall(rf"^{key} = (\S+)$", text, re.M)
                if float(each) == pytest.approx(float(before), rel=1e-3)]  # fmt: skip
        assert len(same) == 1
        text = text.replace(f"{key} = {same[0]}", f"{key} = {value}", 1)
    return text


class CountedChild(SharedChild):
    """Counts what is compiled."""

    asked = 0

    def send_bytes(self, frame: bytes) -> None:
        """Pass a request on."""
        CountedChild.asked += 1
        super().send_bytes(frame)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[CountedChild]:
    """Counts what is compiled from now on, with an empty cache."""
    monkeypatch.setattr(service, "Child", CountedChild)
    monkeypatch.setattr(CountedChild, "asked", 0)
    monkeypatch.setenv("FIELDTUNE_CACHE", str(tmp_path / "cache"))
    return CountedChild


def with_limit(study: Path, folder: Path, limit: str) -> Path:
    """A copy of the study with this limit alone, on all of its fleet."""
    old = re.search(r"\[limits\]\n(?:[a-z_]+ = .*\n)+", study.read_text())
    assert old
    return changed(study, folder, old[0], f"[limits]\n{limit}\n")


@pytest.mark.parametrize("command", ["check", "tune"])
def test_limits_that_no_model_can_keep_are_told_with_what_the_smallest_of_each_needs(
    command: str, compiled: type[CountedChild], fieldtune: Command, small_study: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    file = with_limit(small_study, tmp_path, "storage_mib = 0.005")
    done = fieldtune(command, file, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    known, error = (line for line in done.stderr.splitlines() if "whatever the model" in line)
    assert not known.startswith("error:")
    assert re.search(r"at least limits\.storage_mib = 0\.0059\d* \(it is 0\.005\) is needed", known)
    assert re.search(r"the closest would do with limits\.storage_mib = 0\.03\d+ ", error)
    assert compiled.asked == 2  # one mlp, one cnn, of the space's eight architectures


def test_limits_that_only_the_models_of_the_study_exceed_are_told_before_all_are_compiled(
    compiled: type[CountedChild], fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    file = with_limit(small_study, tmp_path, "storage_mib = 0.02")
    done = fieldtune("tune", file, "--out", "run", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    before, _, error = done.stderr.partition("error:")
    assert "the closest would do with limits.storage_mib = 0.03" in before
    assert "storage_mib rules out 100 %. The closest one would do with" in error
    assert compiled.asked == 8


def test_limits_that_the_defaults_keep_take_no_search(
    compiled: type[CountedChild], fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    file = with_limit(small_study, tmp_path, "storage_mib = 50")
    file.write_text(file.read_text().replace('model = ["mlp", "cnn"]', 'model = "mlp"'))
    done = fieldtune("tune", file, "--out", "run", "--trials", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "exceed the limits" not in done.stderr
