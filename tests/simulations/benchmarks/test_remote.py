"""Peers in a process of their own, with a stand-in for the interpreter that has torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import FleetError
from tuner.analytic import C2Dtlz2
from tuner.experiment import run
from tuner.remote import START, Botorch, RemoteGp, missing

pytestmark = pytest.mark.integration

ANSWERING = """
import json, sys
with open({log!r}, "a") as log:
    for line in sys.stdin:
        log.write(line)
        print(json.dumps({{"index": 3}}), flush=True)
"""


def interpreter(folder: Path, program: str) -> str:
    """A program that stands for a Python with torch, whatever it is told to run."""
    (folder / "child.py").write_text(program)
    file = folder / "python"
    file.write_text(f"#!/bin/sh\nexec {sys.executable} {folder / 'child.py'}\n")
    file.chmod(0o755)
    return str(file)


def test_botorch_is_sent_what_was_feasible_and_a_pool_that_the_formulas_allow(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    problem = C2Dtlz2()
    peer = Botorch(problem, 0, interpreter(tmp_path, ANSWERING.format(log=str(log))))
    try:
        tried = run(problem, peer, 0, START + 2)
    finally:
        peer.close()
    assert all(each.evaluation.feasible for each in tried)
    hello, *asked = map(json.loads, log.read_text().splitlines())
    assert hello == {"do": "create", "peer": "botorch", "seed": 0, "shares": []}
    assert [len(request["points"]) for request in asked] == [START, START + 1]
    for request, chosen in zip(asked, tried[START:], strict=True):
        assert request["do"] == "ask"
        assert len(request["pool"]) >= 500
        assert request["pool"][3] == pytest.approx([float(v) for v in chosen.values.values()])
        assert len(request["objectives"][0]) == 2


def test_botorch_may_be_told_what_formulas_say_and_the_reference_point(tmp_path: Path) -> None:
    log = tmp_path / "log"
    problem = C2Dtlz2()
    peer = Botorch(problem, 0, interpreter(tmp_path, ANSWERING.format(log=str(log))), informed=True)
    try:
        tried = run(problem, peer, 0, START + 1)
    finally:
        peer.close()
    _, request = map(json.loads, log.read_text().splitlines())
    known = problem.known(tried[0].values).objectives
    assert request["known"] == sorted(known)
    assert request["costs"][0] == pytest.approx([known[index] for index in sorted(known)])
    assert len(request["costs"]) == len(request["points"]) + len(request["pool"])
    (index,) = known
    assert request["reference"][index] > max(each[0] for each in request["costs"])


def test_a_process_that_ends_says_why(tmp_path: Path) -> None:
    broken = interpreter(tmp_path, "raise SystemExit('no memory left')")
    with pytest.raises(FleetError, match="it said: no memory left"):
        RemoteGp(C2Dtlz2(), 0, broken)


def test_an_environment_without_the_packages_is_told_apart_from_none(tmp_path: Path) -> None:
    assert missing(sys.executable, ("json", "optuna")) is None
    why = missing(sys.executable, ("json", "no_such_package"))
    assert why is not None
    assert "pip install torch botorch optuna" in why
    assert "cannot be run" in str(missing(str(tmp_path / "none"), ("json",)))
