"""Peers that need torch, reached in a process of their own (:mod:`tuner.torch_child`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.bo.known import Known
from fieldtune.server.bo.reference_point import FrontState
from fieldtune.server.tuner.optuna_terms import distribution
from tuner.encode import draw_allowed, encode, perturb
from tuner.peer import Proposal
from tuner.problem import Evaluation, Problem, Values, ruled_out

START = 10
"""Random configurations before BoTorch models anything, as many as Optuna's GPSampler draws."""

_POOL, _NEIGHBOURS = 500, 500
_CHILD = Path(__file__).with_name("torch_child.py")


@cache
def missing(python: str | None, packages: Sequence[str]) -> str | None:
    """What an environment lacks, in a sentence; None where it has all."""
    probe = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    interpreter = python or sys.executable
    try:
        ran = subprocess.run([interpreter, "-c", probe, *packages], capture_output=True)
    except OSError as broken:
        return f"--torch-python {interpreter} cannot be run: {broken.strerror}"
    if ran.returncode == 0:
        return None
    return (
        f"{' and '.join(packages)} are not all in {python or 'this environment'}: make another one "
        "(python -m venv T; T/bin/pip install torch botorch optuna) and give --torch-python "
        "T/bin/python"
    )


class _Child:
    """The other process, and one question at a time."""

    def __init__(self, python: str | None, hello: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [python or sys.executable, str(_CHILD)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.call(**hello)

    def call(self, **request: Any) -> dict[str, Any]:
        """What it answers.

        Raises:
            FleetError: it ended instead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            _, said = self._process.communicate()
            last = (said.strip().splitlines() or ["nothing"])[-1]
            raise FleetError(f"the process with torch ended; it said: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class RemoteGp:
    """Optuna's GPSampler."""

    def __init__(self, problem: Problem, seed: int, python: str | None) -> None:
        self._problem = problem
        distributions = {
            name: distribution_to_json(distribution(parameter))
            for name, parameter in problem.space.items()
        }
        self._child = _Child(
            python,
            {
                "do": "create",
                "peer": "gp",
                "objectives": len(problem.objectives),
                "distributions": distributions,
                "seed": seed,
            },
        )

    def ask(self) -> Proposal:
        """The sampler's next trial."""
        answer = self._child.call(do="ask")
        number = answer["number"]
        return Proposal(number, answer["params"], self._problem.rounds, 0, number)

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """Passed on."""
        self._child.call(
            do="tell",
            number=proposal.number,
            objectives=list(evaluation.objectives),
            constraints=dict(evaluation.constraints),
        )

    def reject(self, proposal: Proposal, known: Known) -> None:
        """A failed trial."""
        self._child.call(do="reject", number=proposal.number)

    def close(self) -> None:
        """End the process."""
        self._child.close()


class Botorch:
    """qLogNEHVI over what the formulas allow: random candidates and neighbours of the best.

    Args:
        informed: whether known objectives are exact in its model and an input of the others, and
            its reference point follows the rule of ours.
    """

    def __init__(
        self, problem: Problem, seed: int, python: str | None, *, informed: bool = False
    ) -> None:
        self._informed = informed
        self._problem, self._rng = problem, np.random.default_rng([seed, 5])
        self._tried: list[tuple[Values, Evaluation]] = []
        self._number = -1
        hello = {"do": "create", "peer": "botorch", "seed": seed, "shares": sorted(problem.shares)}
        self._child = _Child(python, hello)

    def ask(self) -> Proposal:
        """The best of a fresh pool."""
        self._number += 1
        values: Values = draw_allowed(self._problem, self._rng)
        feasible = [(seen, result.objectives) for seen, result in self._tried if result.feasible]
        if len(self._tried) >= START and len(feasible) >= 3:
            pool = self._pool([seen for seen, _ in feasible])
            answer = self._child.call(
                do="ask",
                points=encode(self._problem.space, [seen for seen, _ in feasible]).tolist(),
                objectives=[objectives for _, objectives in feasible],
                pool=encode(self._problem.space, pool).tolist(),
                **(self._known([seen for seen, _ in feasible], pool) if self._informed else {}),
            )
            values = pool[answer["index"]]
        return Proposal(self._number, values, self._problem.rounds, 0, self._number)

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """Kept; each ask models all of them."""
        self._tried.append((proposal.values, evaluation))

    def reject(self, proposal: Proposal, known: Known) -> None:
        """Its pool holds nothing to reject."""

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _known(self, seen: Sequence[Values], pool: Sequence[Values]) -> dict[str, Any]:
        """What formulas say of what was seen and of the pool, and the reference point of ours."""
        known, indices = [], list[int]()
        for values in (*seen, *pool):
            found = self._problem.known(values).objectives
            indices = sorted(found)
            known.append([found[index] for index in indices])
        costs = np.full((len(pool), len(self._problem.objectives)), np.nan)
        costs[:, indices] = np.array(known[len(seen) :]).reshape(len(pool), len(indices))
        tried = np.array([result.objectives for _, result in self._tried])
        feasible = np.array([result.feasible for _, result in self._tried])
        standing = FrontState.of(
            tried,
            feasible,
            costs,
            [None if index in indices else tried[:START, index] for index in range(tried.shape[1])],
        )
        return {
            "known": indices,
            "costs": known,
            "reference": standing.reference.tolist(),
        }

    def _pool(self, seen: Sequence[Values]) -> list[Values]:
        pool: list[Values] = [draw_allowed(self._problem, self._rng) for _ in range(_POOL)]
        for _ in range(_NEIGHBOURS):
            parent = seen[int(self._rng.integers(len(seen)))]
            child = perturb(self._problem.space, parent, self._rng)
            if not ruled_out(self._problem.known(child)):
                pool.append(child)
        return pool
