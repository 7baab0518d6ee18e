"""Finds the scale of problems and writes it to ``references.toml``.

usage: python simulations/benchmarks/tuner/freeze.py PROBLEM... [--evaluations N]

Tables are enumerated. Otherwise an archive of points that no other beats is grown by moving its
members in ever smaller steps, on the problem's truth. Points with an error of more than three
times the best are left out: a worthless model that costs nothing is no trade-off. A scale is
frozen: it is found once, and changed only where the problem changes, since all scores depend on it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import moocore  # noqa: E402  # the path comes first
import numpy as np  # noqa: E402
import tomlkit  # noqa: E402

from fieldtune.profiles.common.files import write_atomically  # noqa: E402
from tuner.encode import draw_allowed, perturb  # noqa: E402
from tuner.problem import WORST, Problem, Values  # noqa: E402
from tuner.registry import make_problem  # noqa: E402
from tuner.scoring import Matrix  # noqa: E402
from tuner.tables import Table  # noqa: E402

FILE = Path(__file__).with_name("references.toml")
_BATCH = 100
_MOST = 400
"""Members that the archive keeps; enough for two or three objectives."""


def best_front(problem: Problem, evaluations: int) -> tuple[Matrix, str]:
    """Objectives of the best front found, and how."""
    if isinstance(problem, Table):
        truths = [problem.truth(values) for values in problem.configurations()]
        points = np.array([truth.objectives for truth in truths if truth.feasible])
        return points[moocore.is_nondominated(points)], f"all {len(truths)} configurations"
    rng = np.random.default_rng(0)
    archive: list[Values] = [draw_allowed(problem, rng) for _ in range(_BATCH)]
    front = np.array([problem.truth(values).objectives for values in archive])
    batches = max(evaluations // _BATCH, 2)
    for batch in range(1, batches):
        width = 0.3 * 0.003 ** (batch / batches)
        for _ in range(_BATCH):
            parent = archive[int(rng.integers(len(archive)))]
            child = perturb(problem.space, parent, rng, width)
            truth = problem.truth(child)
            if truth.feasible and np.isfinite(truth.objectives).all():
                archive.append(child)
                front = np.vstack([front, truth.objectives])
        keep = np.flatnonzero(moocore.is_nondominated(front, keep_weakly=False))
        if len(keep) > _MOST:  # spread along the first objective; all ends stay
            order = keep[np.argsort(front[keep, 0])]
            spread = order[np.linspace(0, len(order) - 1, _MOST).round().astype(int)]
            keep = np.unique([*spread, *keep[front[keep].argmin(axis=0)]])
        archive, front = [archive[index] for index in keep], front[keep]
    return front, f"an archive of {len(front)} points after {evaluations} evaluations"


def worthwhile(problem: Problem, front: Matrix) -> Matrix:
    """Without points that nobody would deploy: an error more than three times the best."""
    kept = np.ones(len(front), bool)
    for share in problem.shares:
        kept &= front[:, share] <= 3 * front[:, share].min()
    return front[kept]


def main() -> None:
    """Find and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("problems", nargs="+")
    parser.add_argument("--evaluations", type=int, default=100_000)
    given = parser.parse_args()
    for name in given.problems:
        problem = make_problem(name)
        front, source = best_front(problem, given.evaluations)
        front = worthwhile(problem, front)
        ideal, nadir = front.min(axis=0), front.max(axis=0)
        scaled = (front - ideal) / (nadir - ideal)
        volume = moocore.hypervolume(scaled, ref=np.full(len(ideal), WORST))
        # Read again each time: another process may have found another problem's meanwhile.
        document = tomlkit.parse(FILE.read_text() if FILE.exists() else "")
        document[problem.name] = {
            "ideal": ideal.tolist(),
            "nadir": nadir.tolist(),
            "hypervolume": float(volume),
            "source": source,
        }
        write_atomically(FILE, tomlkit.dumps(document))
        print(f"{name}: {ideal} to {nadir}, {volume:.4f}, {source}")


if __name__ == "__main__":
    main()
