"""One session of a study: put the parts together, run the loop, leave the run folder complete."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import CompileError, FleetError, MissingExtraError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.calibration import corrections
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.feasible_space import check_queue
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.costs.rescore import rescore
from fieldtune.server.federation.fleet import Fleet
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import Completed, Failed, Outcome
from fieldtune.server.report.html import render_html
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.results.summarize import summarise
from fieldtune.server.results.trials_csv import trials_csv
from fieldtune.server.results.variants import VariantMaker, with_variants
from fieldtune.server.results.warm_start import warm_start
from fieldtune.server.session.cpu_time import Spending
from fieldtune.server.session.loop import TuningLoop
from fieldtune.server.session.progress import Display
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.changes import steered
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.tuner import OptunaTuner, Tuner

COSTS_FILE = "costs.json"
"""Of a run's folder: the coefficients of each architecture's costs."""


def open_tuner(
    folder: RunFolder, import_path: Sequence[str] = (), warm_start_from: Sequence[Path] = ()
) -> OptunaTuner:
    """The tuner of a run folder.

    Args:
        folder: of the run.
        import_path: where a sampler of the user's own is looked for.
        warm_start_from: folders of finished runs, given to a new one as prior knowledge.
    """
    study = folder.study
    earlier = warm_start(folder, warm_start_from)
    return OptunaTuner(
        folder.database,
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


def compile_service(folder: Path, import_path: Sequence[str]) -> CompileService:
    """The compiler, over the user's artefact cache, with its log in a folder.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError("Compiling a model", "server", "tensorflow")
    return CompileService(
        ArtefactCache(), import_path=list(import_path), log=folder / "compiler.log"
    )


def make_cost_model(
    study: StudyConfig, members: Sequence[Description], folder: RunFolder | None = None
) -> CostModel:
    """Predicts costs on the device types of the study, whether or not a member is of them.

    Args:
        study: of the run.
        members: the fleet.
        folder: of the run, where the cost model's coefficients are kept; None keeps them nowhere.
    """
    names = {*study.fleet.devices, *(member.profile for member in members)}
    profiles = {name: load_profile(name) for name in sorted(names)}
    if folder is None:
        return CostModel(study, members, profiles)
    return CostModel(
        study,
        members,
        profiles,
        kept=folder.read(COSTS_FILE),
        keep=lambda text: folder.write(COSTS_FILE, text),
    )


def make_artefacts(
    study: StudyConfig, members: Sequence[Description], service: CompileService
) -> Artefacts:
    """The artefacts of a study for the fleet's data.

    Raises:
        FleetError: the clients' data differ in shape or classes.
    """
    shapes = {(member.input_shape, member.classes) for member in members}
    if len(shapes) != 1:
        raise FleetError(
            f"The clients disagree on the task: {sorted(shapes)} (input shape, classes); "
            "give all of them data of one kind"
        )
    input_shape, classes = shapes.pop()
    return Artefacts(study, input_shape, classes, service)


def run_session(
    folder: RunFolder,
    tuner: Tuner,
    fleet: Fleet,
    service: CompileService,
    display: Display,
    spending: Spending,
    notes: Callable[[str], None],
) -> Summary:
    """Run the study to its end and write its outcome; what is there already is kept.

    ``notes`` is told, in a sentence, of a client whose report is refused.

    Raises:
        FleetError: no client could train, or measure a file to deploy; all else is written.
    """
    study, members = folder.study, fleet.members()
    bounds = Bounds(members, notes)
    artefacts = make_artefacts(study, members, service)
    costs = make_cost_model(study, members, folder)
    known = known_costs(study, costs, artefacts, tuner.history())
    check_queue(study, tuner.history(), costs, artefacts)
    recorder = _Recorder(folder, tuner, costs, display)
    recorder.write(known)
    TuningLoop(
        folder, tuner, fleet, members, costs, artefacts, known, recorder, spending, bounds
    ).run()
    _check_learned(tuner.history())
    with spending.on("export"):
        known.calibrate(corrections(tuner.history()))
        summary = recorder.write(known)
        tuner.revise(recorder.evaluated())
        maker = VariantMaker(folder, artefacts, service, fleet, members, bounds)
        unmeasured = maker.make(summary.front, tuner.history())
        summary = with_variants(folder, summary)
        folder.write("pareto.json", to_json(summary))
        folder.write("report.html", render_html(summary))
    spending.charge("compile", service.busy_s)
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
    """What is known before the first question: the defaults of each model, and what was tried.

    An architecture counts as compiled by the study's own history, never by what the artefact cache
    happens to hold, so that the same study asks the same questions on any machine.
    """
    known = KnownCosts(study, costs)
    defaults = study.full_space.defaults()
    first = [
        replace(defaults, model={**defaults.model, "model": model})
        if len(study.task.models) > 1
        else defaults
        for model in study.task.models
    ]
    tried = [outcome.proposal.configuration for outcome in history]
    for configuration in (*first, *tried):
        artefacts.of(configuration)  # all are on their way before the first is waited for
    for configuration in (*first, *tried):
        try:
            known.learn(configuration, artefacts.of(configuration).result().manifest)
        except CompileError:
            continue  # it failed when it was asked for, or will when it is
    return known


def _check_learned(outcomes: Sequence[Outcome]) -> None:
    """A study of which every trial failed has no outcome to show."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if failed and not any(isinstance(outcome, Completed) for outcome in outcomes):
        raise FleetError(
            f"None of {len(failed)} trials could be trained; the last one: {failed[-1].reason}"
        )


class _Recorder:
    """Keeps ``trials.csv`` and ``pareto.json`` up to date, then passes the news on.

    They are rewritten whole, so in a long study not after every trial: never more than a tenth of
    the time goes into it. What a kill leaves out of date is in ``study.db``.
    """

    def __init__(self, folder: RunFolder, tuner: Tuner, costs: CostModel, display: Display) -> None:
        self._folder, self._tuner, self._costs, self._display = folder, tuner, costs, display
        self._next_write = 0.0

    def round_started(self, trial: int, number: int) -> None:
        self._display.round_started(trial, number)

    def told(self, outcome: Outcome) -> None:
        if time.monotonic() >= self._next_write:
            self.write()
        evaluated = self.evaluated()
        number = outcome.proposal.number
        now = next(each for each in evaluated if each.proposal.number == number)
        self._display.told(now, evaluated)

    def evaluated(self) -> list[Outcome]:
        """All outcomes, re-evaluated by what all of them have taught of the devices."""
        history = self._tuner.history()
        return rescore(history, self._costs, corrections(history))

    def write(self, known: KnownCosts | None = None) -> Summary:
        """Write the files; ``known`` is what the tuner is to predict trials by from now on."""
        began = time.monotonic()
        evaluated, study = self.evaluated(), self._folder.study
        summary = summarise(
            study,
            evaluated,
            corrections(evaluated),
            self._tuner.predict(evaluated, known),
            self._tuner.changes,
        )
        self._folder.write("trials.csv", trials_csv(study, evaluated))
        self._folder.write("pareto.json", to_json(summary))
        now = time.monotonic()
        self._next_write = now + 10 * (now - began)
        return summary
