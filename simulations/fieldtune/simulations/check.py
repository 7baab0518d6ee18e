"""``fieldtune check``: what a study's limits leave of its space, without training.

It imports neither Optuna nor SciPy, which take longer to load than the rest takes to do.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from fieldtune.profiles.common.console import table_console
from fieldtune.profiles.common.errors import InfeasibleError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.compiler.sources import check_defines
from fieldtune.server.costs.feasible_space import check_queue, impossible, screen
from fieldtune.server.federation.availability import Availability
from fieldtune.server.report.check import check_json, print_check
from fieldtune.server.session.possible import check_limits
from fieldtune.server.session.rehearsal import check_names, metric_line, rehearse, try_aggregation
from fieldtune.server.session.setup import (
    compile_service,
    make_artefacts,
    make_cost_model,
)
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study
from fieldtune.server.study.unused import unused_settings
from fieldtune.simulations.fleet.fleet import SimulatedFleet
from fieldtune.simulations.fleet.plan import FleetPlan


def check_in_simulation(study_file: Path, *, as_json: bool = False) -> None:
    """Print a study's setup and what satisfies its limits, without training."""
    study = load_study(study_file)
    check_can_be_simulated(study, study_file.parent)
    check_names(study, [str(study_file.resolve().parent)])
    notes = Console(stderr=True)

    def say(sentence: str) -> None:
        notes.print(sentence, highlight=False, soft_wrap=True, markup=False)

    import_path = [str(study_file.resolve().parent)]
    try_aggregation(study, import_path)
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as scratch,
        closing(compile_service(Path(scratch), import_path)) as service,
        SimulatedFleet(
            FleetPlan.of(study, study_file.parent),
            workers=1,
            import_path=import_path,
            log=Path(scratch) / "log",
        ) as fleet,
    ):
        impossible_limits: InfeasibleError | None = None
        with notes.status("describing the fleet") as status:

            def progress(sentence: str) -> None:
                status.update(sentence)
                if sentence and not notes.is_terminal:
                    say(sentence)

            service.on_progress = progress
            members = fleet.members()
            costs = make_cost_model(study, members)
            artefacts = make_artefacts(study, members, service)
            rehearsal = None
            try:
                check_limits(study, members, artefacts, say)
            except InfeasibleError as refused:
                impossible_limits = refused
            else:
                status.update("trying model and metric on a client's samples")
                rehearsal = rehearse(study, members, artefacts, fleet)
            screening = screen(
                study, costs, artefacts, seed=study.study.seed, compiles=not impossible_limits
            )
        if impossible_limits and not screening.sampled:
            raise impossible_limits
        for sentence in (fleet.facts.warning, *unused_settings(study)):
            if sentence:
                say(sentence)
        metric = metric_line(study, fleet.facts, rehearsal)
        if as_json:
            typer.echo(check_json(study, members, screening, fleet.facts, metric))
        else:
            print_check(study, members, screening, table_console(), fleet.facts, metric=metric)
        if impossible_limits or not screening.feasible:
            raise impossible_limits or InfeasibleError(impossible(study, screening))
        check_queue(study, [], costs, artefacts)


def check_can_be_simulated(study: StudyConfig, base: Path) -> None:
    """Raise an error for a study that cannot be simulated, before anything is written.

    ``base`` is the study file's folder.
    """
    FleetPlan.of(study)
    if ":" in str(study.task.data):
        check_defines(str(study.task.data), "task.data", [str(base.resolve()), *sys.path])
    Availability(study.fleet.availability, study.study.seed, base)
    for name in study.fleet.devices:
        load_profile(name)


@contextmanager
def closing(service: CompileService) -> Iterator[CompileService]:
    """Close the service at the end."""
    try:
        yield service
    finally:
        service.close()
