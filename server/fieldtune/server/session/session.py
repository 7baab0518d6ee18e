"""One session of a study: set up its parts, run the tuning loop, write the run folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fieldtune.profiles.common.errors import (
    CompileError,
    FieldtuneError,
    FleetError,
    RunFolderError,
)
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.calibration import corrections
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.feasible_space import check_queue
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.federation.fleet import Fleet
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.federation.refusals import RefusalStore
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.results.card import card_data
from fieldtune.server.results.export import to_measure
from fieldtune.server.results.fingerprint import check_fingerprint, fingerprint
from fieldtune.server.results.model_files import with_variants, write_cards
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.results.unlike import unlike_devices
from fieldtune.server.results.variants import VariantMaker
from fieldtune.server.results.warm_start import warm_start
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.loop import TuningLoop
from fieldtune.server.session.lost_weights import train_lost_again
from fieldtune.server.session.outlook import outlook
from fieldtune.server.session.possible import check_limits
from fieldtune.server.session.progress import Display
from fieldtune.server.session.recorder import Recorder, write_results
from fieldtune.server.session.rehearsal import rehearse, try_aggregation
from fieldtune.server.session.setup import make_artefacts, make_cost_model, model_defaults
from fieldtune.server.session.training import Training
from fieldtune.server.session.untrainable import check_learned
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.changes import steered
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.server.tuner import OptunaTuner, Tuner
from fieldtune.server.tuner.storage_errors import damaged
from fieldtune.server.tuner.study_storage import StudyStorage


def open_tuner(
    folder: RunFolder, import_path: Sequence[str] = (), warm_start_from: Sequence[Path] = ()
) -> OptunaTuner:
    """The tuner of a run folder.

    Args:
        folder: the run folder.
        import_path: searched for the user's own sampler.
        warm_start_from: folders of finished runs; a new run takes their trials as prior knowledge.

    Raises:
        RunFolderError: the database is damaged, or lost while other results are there.
    """
    study = folder.study
    storage = StudyStorage(folder.database, study.study.storage)
    earlier = warm_start(folder, warm_start_from)
    if folder.has_results and storage.lost:
        raise damaged(storage, f"{storage.lost}, though this folder holds results of trials")
    tuner = OptunaTuner(
        storage,
        name=study.study.name,
        identity=folder.identity,
        space=study.full_space,
        objectives=study.study.objectives,
        seed=study.study.seed,
        rounds=study.study.rounds,
        sampler=study.tuner.name,
        import_path=import_path,
        earlier=earlier,
        steer=lambda before: steered(before, study, str(folder.path)),
        queue=study.queue,
    )
    if folder.recorded_trials and not tuner.history():
        raise damaged(storage, f"has no trial, though trials.csv lists {folder.recorded_trials}")
    return tuner


def run_session(
    folder: RunFolder,
    tuner: Tuner,
    fleet: Fleet,
    service: CompileService,
    display: Display,
    cpu_time: CpuTime,
    notes: Callable[[str], None],
    refusals: RefusalStore | None = None,
    *,
    rehearsed: bool = False,
    facts: DataFacts | None = None,
    accept_changes: bool = False,
) -> Summary:
    """Run or resume the study to its end, and write the results into the run folder.

    ``notes`` prints a sentence about each client whose report is rejected; ``refusals`` keeps what
    was rejected beyond this study. With ``rehearsed``, a new study first tries model and metric
    once on a client's samples. ``facts`` are of simulated data. With ``accept_changes``, a run goes
    on although its fingerprint has changed.

    Raises:
        InfeasibleError: no model can keep the limits of a new study.
        RunFolderError: data, partition, code or versions have changed since the run began.
        UsageError: the study's metric does not return a value and a weight, or its aggregation
            does not work.
        FleetError: no client could train; or no client could measure a file to deploy, in which
            case the other results are written.
    """
    study, members = folder.study, list(fleet.members())
    bounds = Bounds(members, notes, store=refusals)
    artefacts = make_artefacts(study, members, service)
    check_fingerprint(
        folder,
        fingerprint(study, members[0], facts, service.import_path, folder.study_folder),
        any_trials=bool(tuner.history()),
        accept=tuner.accept_changes if accept_changes else None,
    )
    try_aggregation(study, service.import_path)
    if not tuner.history():
        check_limits(study, members, artefacts, notes)
    if rehearsed and not tuner.history():
        rehearse(study, members, artefacts, fleet)
    in_flight: deque[Training] = deque()
    while True:
        costs = make_cost_model(study, members, folder)
        known = known_costs(study, costs, artefacts, tuner.history())
        check_queue(study, tuner.history(), costs, artefacts)
        recorder = Recorder(folder, tuner, costs, display, facts.partition if facts else "")
        recorder.write(known)
        loop = TuningLoop(
            folder, tuner, fleet, members, costs, artefacts, known, recorder, cpu_time, bounds,
            in_flight,
        )  # fmt: skip
        if loop.wants_more():
            service.start()  # it is needed at the latest for the files to deploy
        try:
            joined = loop.run()
        except BaseException:
            with suppress(FieldtuneError):  # why it ended is the more important message
                recorder.write(state="interrupted")
            raise
        if not joined:
            break
        members = [*members, *joined]
        bounds.set_members(members)
    with cpu_time.on("export"):
        known.calibrate(corrections(tuner.history()))
        summary = recorder.write(known)
        check_learned(study, tuner.history())
        while train_lost_again(
            [each.trial for each in [*summary.deployable, *_to_measure(folder, summary, tuner)]],
            folder, tuner, loop, notes,
        ):  # fmt: skip
            known.calibrate(corrections(tuner.history()))
            summary = recorder.write(known)
        tuner.revise(recorder.evaluated()[0])
        maker = VariantMaker(folder, artefacts, service, fleet, members, bounds)
        unmeasured = maker.make(_to_measure(folder, summary, tuner), tuner.history())
        write_cards(folder, with_variants(folder, summary), card_data(study, members).labels)
        summary = with_variants(folder, summary)
        expected = outlook(study, summary, recorder.evaluated()[0], known)
        summary = summary.model_copy(update={"state": "finished", "outlook": expected})
        write_results(folder, summary)
        for sentence in unlike_devices(summary):
            notes(sentence)
    cpu_time.add("compile", service.busy_s)
    if unmeasured:
        raise FleetError(
            f"All trials are done, but files to deploy could not be measured; {unmeasured[0]}. "
            f"{folder.path / 'report.html'} is written without them: run the same command again "
            "to measure them"
        )
    return summary


def known_costs(
    study: StudyConfig,
    costs: CostModel,
    artefacts: Artefacts,
    history: Sequence[Outcome],
) -> KnownCosts:
    """The tuner's view of the cost model; compiles each model's defaults and the trials so far.

    An architecture counts as compiled because of the study's history, never because the artefact
    cache happens to hold it: so the same study makes the same proposals on any machine.
    """
    known = KnownCosts(study, costs)
    tried = [outcome.proposal.configuration for outcome in history]
    needed = [*model_defaults(study), *tried]
    for configuration in needed:
        artefacts.of(configuration)  # queue all before waiting for the first
    for configuration in needed:
        try:
            known.learn(configuration, artefacts.of(configuration).result().manifest)
        except CompileError:  # its trial has failed for that, or will
            known.rule_out(configuration)
    return known


def _to_measure(folder: RunFolder, summary: Summary, tuner: Tuner) -> list[Point]:
    """The points whose files are measured; results for other device types may be of other trials.

    Where those are damaged, they are left to ``fieldtune retarget``, which writes them anew.
    """
    completed = {o.proposal.number for o in tuner.history() if isinstance(o, Completed)}
    points = summary.exported
    with suppress(RunFolderError):
        points = to_measure(folder.path, summary)
    return [point for point in points if point.trial in completed]
