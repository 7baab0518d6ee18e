"""``fieldtune check``: what a study's limits leave of its space, without training.

It imports neither Optuna nor SciPy, which take longer to load than the rest takes to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from fieldtune.profiles.common.errors import InfeasibleError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.feasible_space import check_queue, impossible, screen
from fieldtune.server.federation.grid_fleet import GridFleet
from fieldtune.server.report.check import check_json, print_check
from fieldtune.server.session.rehearsal import metric_line, rehearse
from fieldtune.server.session.setup import compile_service, make_artefacts, make_cost_model
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study
from fieldtune.simulations.fleet.grid import SimulationGrid
from fieldtune.simulations.fleet.plan import FleetPlan


def check_in_simulation(study_file: Path, *, as_json: bool = False) -> None:
    """Print a study's setup and what satisfies its limits, without training."""
    study = load_study(study_file)
    check_can_be_simulated(study)
    notes = Console(stderr=True)
    import_path = [str(study_file.resolve().parent)]
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as scratch,
        closing(compile_service(Path(scratch), import_path)) as service,
        SimulationGrid(
            FleetPlan.of(study, study_file.parent),
            workers=1,
            import_path=import_path,
            log=Path(scratch) / "log",
        ) as grid,
    ):
        with notes.status("describing the fleet") as status:
            fleet = GridFleet(grid)
            members = fleet.members()
            costs = make_cost_model(study, members)
            artefacts = make_artefacts(study, members, service)
            status.update("trying model and metric on a client's samples")
            rehearsal = rehearse(study, members, artefacts, fleet)
            screening = screen(
                study,
                costs,
                artefacts,
                seed=study.study.seed,
                on_progress=lambda done, total: status.update(
                    f"compiled {done}/{total} architectures"
                ),
            )
        if grid.facts.warning:
            notes.print(grid.facts.warning, highlight=False, soft_wrap=True, markup=False)
        metric = metric_line(study, grid.facts, rehearsal)
        if as_json:
            typer.echo(check_json(study, members, screening, grid.facts, metric))
        else:
            print_check(study, members, screening, Console(), grid.facts, metric=metric)
        if not screening.feasible:
            raise InfeasibleError(impossible(study, screening))
        check_queue(study, [], costs, artefacts)


def check_can_be_simulated(study: StudyConfig) -> None:
    """Raise an error for a study that cannot be simulated, before anything is written."""
    FleetPlan.of(study)
    for name in study.fleet.devices:
        load_profile(name)


@contextmanager
def closing(service: CompileService) -> Iterator[CompileService]:
    """Close the service at the end."""
    try:
        yield service
    finally:
        service.close()
