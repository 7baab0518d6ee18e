"""``fieldtune tune`` and ``fieldtune check`` on a simulated fleet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Context, RecordDict
from rich.console import Console

from fieldtune.profiles.catalogue import load_profile
from fieldtune.profiles.errors import InfeasibleError, InterruptError
from fieldtune.server.app import GridFleet, make_server_app
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.fleet import Fleet
from fieldtune.server.pareto import Summary
from fieldtune.server.progress import ProgressDisplay
from fieldtune.server.report.check import print_check
from fieldtune.server.report.table import print_summary
from fieldtune.server.runfolder import RunFolder
from fieldtune.server.screening import impossible, screen
from fieldtune.server.spending import Spending
from fieldtune.server.study import StudyConfig
from fieldtune.server.studyfile import load_study
from fieldtune.server.tune import (
    compile_service,
    make_artefacts,
    make_forecaster,
    open_tuner,
    run_session,
)
from fieldtune.simulations.fleet import RUN_ID, FleetPlan
from fieldtune.simulations.grid import SimulationGrid


def tune_in_simulation(
    study_file: Path, out: Path | None, *, trials: int | None, seed: int | None, workers: int
) -> None:
    """Run or resume a study; the front on stdout, progress on stderr."""
    spending = Spending()
    study = load_study(study_file)
    _check_profiles(study)
    notes = Console(stderr=True)
    path = out or Path("runs") / study.study.name
    import_path = [str(study_file.resolve().parent)]
    text = study_file.read_text()
    with RunFolder(path, text, trials=trials, seed=seed, where=str(study_file)) as folder:
        tuner = open_tuner(folder)
        history = tuner.history()
        if history:
            notes.print(
                f"Going on with {path}: {len(history)} trials are there",
                highlight=False,
                soft_wrap=True,
            )
        service = compile_service(path, import_path)
        try:
            with (
                SimulationGrid(
                    FleetPlan.of(folder.study, study_file.parent),
                    workers=workers,
                    import_path=import_path,
                    log=path / "workers.log",
                ) as grid,
                ProgressDisplay(folder.study, history, notes) as display,
            ):
                summaries: list[Summary] = []

                def session(fleet: Fleet) -> None:
                    summaries.append(run_session(folder, tuner, fleet, service, display, spending))

                make_server_app(session)(grid, _server_context())
        except KeyboardInterrupt:
            raise InterruptError(
                f"interrupted; {len(tuner.history())} trials are kept in {path}: run the same "
                "command to go on"
            ) from None
        finally:
            service.close()
    print_summary(summaries[0], Console())
    notes.print(_where_time_went(spending), highlight=False, soft_wrap=True)
    notes.print(f"Report: {path / 'report.html'}", highlight=False, soft_wrap=True)


def check_in_simulation(study_file: Path) -> None:
    """Print what a study is about and what its limits leave, training nothing."""
    study = load_study(study_file)
    _check_profiles(study)
    notes = Console(stderr=True)
    import_path = [str(study_file.resolve().parent)]
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as scratch,
        _closing(compile_service(Path(scratch), import_path)) as service,
        SimulationGrid(
            FleetPlan.of(study, study_file.parent),
            workers=1,
            import_path=import_path,
            log=Path(scratch) / "log",
        ) as grid,
        notes.status("describing the fleet") as status,
    ):
        members = GridFleet(grid).members()
        screening = screen(
            study,
            make_forecaster(study, members),
            make_artefacts(study, members, service),
            seed=study.study.seed,
            on_progress=lambda done, total: status.update(f"compiled {done}/{total} architectures"),
        )
    print_check(study, members, screening, Console(), dealt=grid.dealt)
    if not screening.feasible:
        raise InfeasibleError(impossible(study, screening))


def _check_profiles(study: StudyConfig) -> None:
    for name in study.fleet.devices:
        load_profile(name)


def _server_context() -> Context:
    return Context(run_id=RUN_ID, node_id=1, node_config={}, state=RecordDict(), run_config={})


@contextmanager
def _closing(service: CompileService) -> Iterator[CompileService]:
    try:
        yield service
    finally:
        service.close()


def _where_time_went(spending: Spending) -> str:
    phases = spending.by_phase()
    return f"Took {spending.wall_s:.1f} s; busy seconds of all processes: " + ", ".join(
        f"{phase} {cpu_s:.1f}" for phase, cpu_s in phases.items() if cpu_s >= 0.05
    )
