"""``fieldtune tune`` with a simulated fleet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.command import Notes, OpenedFleet, run_study
from fieldtune.server.study.load import load_study
from fieldtune.simulations.check import check_can_be_simulated
from fieldtune.simulations.fleet.fleet import SimulatedFleet
from fieldtune.simulations.fleet.plan import FleetPlan

if TYPE_CHECKING:
    from fieldtune.server.processes.ray_cluster import RayCluster

_REPLACED = 3
"""How many times in a row a worker on a cluster is replaced: what ends it may be the study."""


def tune_in_simulation(
    study_file: Path,
    out: Path | None,
    *,
    trials: int | None,
    seed: int | None,
    workers: int,
    warm_start: Sequence[Path] = (),
    accept_changes: bool = False,
    as_json: bool = False,
    cluster: RayCluster | None = None,
) -> None:
    """Run or resume a study; prints the Pareto front to stdout and progress to stderr.

    With a cluster, clients are simulated and models compiled there.
    """
    check_can_be_simulated(load_study(study_file), study_file.parent)

    @contextmanager
    def simulated(
        folder: RunFolder, import_path: Sequence[str], note: Notes, waiting: Notes
    ) -> Iterator[OpenedFleet]:
        with SimulatedFleet(
            FleetPlan.of(folder.study, study_file.parent),
            workers=workers,
            import_path=import_path,
            log=folder.path / "workers.log",
            notes=note,
            spawn=cluster.worker if cluster else None,
            replaced=_REPLACED if cluster else 0,
        ) as fleet:
            facts = fleet.facts
            if facts.warning:
                note(facts.warning)
            yield fleet, facts

    run_study(
        study_file, out, trials=trials, seed=seed, warm_start=warm_start, fleet_of=simulated,
        accept_changes=accept_changes, as_json=as_json,
        spawn=cluster.compiler if cluster else None,
    )  # fmt: skip
