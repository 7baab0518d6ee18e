"""Limits that nothing keeps are told with the values that suffice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import pytest

from fieldtune.server.compiler import service
from support.commandline import Command
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
    assert "rules out 100 %" in error
    told = re.findall(r"limits\.(\S+) = (\S+) \(it is (\S+)\)", error)
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


def test_limits_that_no_model_can_keep_are_told_before_anything_is_compiled(
    fieldtune: Command,
    small_study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(*_: object) -> NoReturn:
        raise AssertionError("a compile process was started")

    monkeypatch.setattr(service, "Child", none)
    old = re.search(r"\[limits\]\n(?:[a-z_]+ = .*\n)+", small_study.read_text())
    assert old
    # Of a width of its own, so that no other test has compiled it.
    wide = small_study.read_text().replace(old[0], "[limits]\nmemory_mib = 80\n")
    file = tmp_path / "study.toml"
    file.write_text(re.sub(r"^width = .*$", "width = { choices = [8, 57] }", wide, flags=re.M))
    done = fieldtune("tune", file, "--out", "run", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "whatever the model" in done.stderr
    assert "at least limits.memory_mib = 106 (it is 80) is needed" in done.stderr
