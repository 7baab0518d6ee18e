"""``fieldtune tune`` on any fleet: from a study file to its run folder and what is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import typer
from rich.console import Console

from fieldtune.profiles.common.console import table_console
from fieldtune.profiles.common.errors import InterruptError
from fieldtune.profiles.common.imports import uncollected
from fieldtune.profiles.common.text import printable
from fieldtune.server.federation.fleet import Fleet
from fieldtune.server.federation.refusals import RefusalStore
from fieldtune.server.processes.child import Spawn
from fieldtune.server.report.format import counted, listed
from fieldtune.server.report.run_info import run_info
from fieldtune.server.report.table import print_summary
from fieldtune.server.results.run_folder import RunFolder, read_result
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.interrupts import interruptible
from fieldtune.server.session.progress import ProgressDisplay
from fieldtune.server.session.rehearsal import check_names
from fieldtune.server.session.setup import compile_service
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.server.study.load import parse_study, study_text
from fieldtune.server.study.unused import unused_settings

Notes = Callable[[str], None]
"""Prints a sentence on stderr."""
OpenedFleet = tuple[Fleet, DataFacts | None]
"""A fleet, and what its data are where it is simulated."""
FleetSource = Callable[
    [RunFolder, Sequence[str], Notes, Notes], AbstractContextManager[OpenedFleet]
]
"""``(run folder, import path of the user's modules, note, waiting) -> opened fleet``.

``note`` prints a sentence; ``waiting`` shows what the fleet waits for
(:meth:`ProgressDisplay.waiting`)."""


def run_study(
    study_file: Path,
    out: Path | None,
    *,
    trials: int | None,
    seed: int | None,
    warm_start: Sequence[Path],
    fleet_of: FleetSource,
    refusals: RefusalStore | None = None,
    accept_changes: bool = False,
    as_json: bool = False,
    spawn: Spawn | None = None,
) -> None:
    """Run or resume a study: the result on stdout, as a table or as JSON; progress on stderr.

    ``refusals`` keeps which devices' reports were refused beyond this study. With
    ``accept_changes``, a run goes on with data, code or versions that have changed. ``spawn``
    starts the process that compiles.
    """
    cpu_time = CpuTime()
    console = Console(stderr=True)

    def note(sentence: str) -> None:
        # A terminal breaks lines anywhere; a log has them whole.
        whole = not console.is_terminal
        console.print(printable(sentence), highlight=False, soft_wrap=whole, markup=False)

    import_path = [str(study_file.resolve().parent)]
    text = study_text(study_file)
    asked = parse_study(text, str(study_file))
    check_names(asked, import_path)
    path = out or Path("runs") / asked.study.name
    with (
        interruptible() as interrupts,
        RunFolder(path, text, trials=trials, seed=seed, where=str(study_file)) as folder,
        closing(compile_service(path, import_path, spawn)) as service,
    ):
        if not folder.has_results:
            service.start()  # it is needed at the latest for the files to deploy
        # Slow to import: Optuna and SciPy, while the compiler imports TensorFlow.
        with uncollected():
            from fieldtune.server.results.warm_start import stored
            from fieldtune.server.session.session import open_tuner, run_session
        folder.note_study_file(study_file)
        tuner = open_tuner(folder, import_path, warm_start)
        history = tuner.history()
        open_trials = folder.open_checkpoints({each.proposal.number for each in history})
        if history or open_trials:
            note(f"Resuming {path}, which has {_kept(len(history), open_trials)}")
        for change in tuner.changes:
            note(f"Study changed. {change}")
        for study in stored(folder):
            found = counted(len(study.trials), "trial")
            note(f"Warm start from {study.name}: {found}")
        try:
            with (
                ProgressDisplay(folder.study, tuner.history(), console) as display,
                fleet_of(folder, import_path, note, display.waiting) as (fleet, facts),
            ):
                for sentence in unused_settings(folder.study, on_devices=facts is None):
                    note(sentence)
                service.on_progress = display.waiting
                summary = run_session(
                    folder, tuner, fleet, service, interrupts.watching(display), cpu_time, note,
                    refusals, rehearsed=bool(facts) or folder.study.task.own_metric, facts=facts,
                    accept_changes=accept_changes,
                )  # fmt: skip
        except BaseException as ended:
            if not interrupts.ended(ended):
                raise
            told = {each.proposal.number for each in tuner.history()}
            kept = _kept(len(told), folder.open_checkpoints(told))
            raise InterruptError(
                f"{interrupts.sentence}; {path} keeps {kept}: run the same command to resume"
            ) from None
    if as_json:
        typer.echo(read_result(path, "pareto.json"), nl=False)
    else:
        print_summary(summary, table_console(), run_info(path, summary))
    note(_time_by_phase(cpu_time))
    note(f"Report: {path / 'report.html'}")


def _kept(trials: int, open_trials: Sequence[int]) -> str:
    """What a run folder keeps: finished trials, and rounds of those in training."""
    if not open_trials:
        return counted(trials, "trial")
    numbers = listed([str(each) for each in open_trials])
    each = "trial" if len(open_trials) == 1 else "trials"
    return f"{counted(trials, 'trial')} and the finished rounds of {each} {numbers}"


def _time_by_phase(cpu_time: CpuTime) -> str:
    phases = cpu_time.by_phase()
    busy = ", ".join(f"{phase} {cpu_s:.1f}" for phase, cpu_s in phases.items() if cpu_s >= 0.05)
    took = f"Took {cpu_time.wall_s:.1f} s"
    return f"{took}; busy seconds of all processes: {busy}" if busy else took
