"""``fieldtune export``: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from support.commandline import COMMAND, Command

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "raspberry-pi-6"], "study's fleet (did you mean 'raspberry-pi-5'"),
        (["--device", "raspberry-pi-5", "--trial", "99"], "There is no model of trial 99"),
        (["--device", "raspberry-pi-5", "--variant", "fp64"], "There is no variant 'fp64'"),
        (["--device", "raspberry-pi-5", "--variant", "int8"], "with 'int8' in variants of its"),
    ],
)  # fmt: skip
def test_an_export_of_what_is_not_there_is_refused(
    arguments: list[str], sentence: str, fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    done = fieldtune("export", used_folder, *arguments, "--out", tmp_path / "x.tflite")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "x.tflite").exists()


FP32 = "fp32.tflite"


def test_a_trial_of_an_interrupted_study_is_converted_when_it_is_exported(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "x.tflite"
    shutil.copytree(used_folder, run)
    model = (run / "models/trial-0000" / FP32).read_bytes()
    for file in (run / "models/trial-0000").iterdir():
        if file.name != "weights.npy":
            file.unlink()
    pareto = json.loads((run / "pareto.json").read_text())
    for point in pareto["front"]:
        point["variants"] = {}
    (run / "pareto.json").write_text(json.dumps(pareto | {"state": "interrupted"}))
    assert fieldtune("report", run).returncode == 0
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "is converted now, and not measured on the clients yet" in done.stderr
    assert out.read_bytes() == model
    bare = {"front": [], "dominated": pareto["front"], "recommended": {}, "defaults": None}
    (run / "pareto.json").write_text(json.dumps(pareto | bare))
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--trial", "0", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "and not measured on the clients: only files of recommended" in done.stderr
    (run / "pareto.json").write_text(json.dumps(pareto))
    wrong = fieldtune(
        "export", run, "--device", "raspberry-pi-5", "--variant", "fp61", "--out", out
    )
    assert wrong.returncode == 2
    assert "no variant 'fp61' (did you mean 'fp16'?)" in wrong.stderr
    (run / "fingerprint.json").unlink()  # as in a run of an earlier fieldtune
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 4
    assert "has no fp32 file of trial 0: run the study's 'fieldtune tune' command" in done.stderr


def test_a_device_type_of_another_fleet_is_exported_for_once_it_is_retargeted(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "x.tflite"
    shutil.copytree(used_folder, run)
    export = ["export", run, "--device", "raspberry-pi-3b-plus", "--out", out]
    refused = fieldtune(*export)
    assert refused.returncode == 2
    assert "For another device type, run 'fieldtune retarget' with it first" in refused.stderr
    moved = fieldtune("retarget", run, "--device", "raspberry-pi-3b-plus")
    assert moved.returncode == 0, moved.stderr
    told = json.loads(fieldtune(*("retarget", run), *export[2:4], "--format", "json").stdout)
    assert list(told["devices"]) == ["raspberry-pi-3b-plus"]
    assert f"fieldtune export {run} --device raspberry-pi-3b-plus --out" in moved.stdout
    done = fieldtune(*export)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (run / "models/trial-0000" / FP32).read_bytes()
    assert done.stdout.endswith("for raspberry-pi-3b-plus\n")


def test_an_export_into_a_folder_that_is_not_there_says_so(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "none/x.tflite"
    done = fieldtune("export", used_folder, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 5
    assert f"{out} cannot be written: there is no folder {out.parent}; create it" in done.stderr
    assert "disk space" not in done.stderr


def test_an_export_onto_a_folder_says_so(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    done = fieldtune("export", used_folder, "--device", "raspberry-pi-5", "--out", tmp_path)
    assert done.returncode == 5
    assert f"{tmp_path} cannot be written: it is a folder; name a file in it" in done.stderr


def test_an_export_that_fails_half_way_leaves_the_file_of_before(
    used_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.tflite"
    out.write_bytes(b"before")
    export = shlex.join(
        [*COMMAND, "export", str(used_folder), "--device", "raspberry-pi-5", "--out", str(out)]
    )
    # No file may be larger than 1 KiB.
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 1; {export}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert f"{out} cannot be written (File too large)" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["x.tflite"]
    assert out.read_bytes() == b"before"


def test_an_export_may_go_to_standard_output(used_folder: Path) -> None:
    command = [*COMMAND, "export", str(used_folder), "--device", "raspberry-pi-5"]
    # What /dev/stdout links to; nothing could be put in its place, as in /dev by root.
    done = subprocess.run([*command, "--out", "/proc/self/fd/1"], capture_output=True, check=False)
    assert done.stdout.startswith((used_folder / "models/trial-0000" / FP32).read_bytes())
