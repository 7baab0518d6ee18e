"""The files of a run folder that show its results so far, kept up to date while it runs."""

from __future__ import annotations

import time
from typing import Literal

from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.calibration import Calibrator
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.costs.rescore import Rescorer
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import run_info
from fieldtune.server.results.needs import with_needs
from fieldtune.server.results.privacy_spent import privacy_spent
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.results.summarize import summarise
from fieldtune.server.results.trials_csv import trials_csv
from fieldtune.server.session.progress import Display
from fieldtune.server.tuner import Tuner
from fieldtune.server.tuner.importance import importances

_PAUSE = 20
"""After the files are written, so many times as long as it took passes until they are again."""


def write_results(folder: RunFolder, summary: Summary) -> None:
    """Write ``pareto.json``, and the page on it."""
    folder.write("pareto.json", to_json(summary))
    folder.write("report.html", render_html(summary, run_info(folder.path, summary)))


class Recorder:
    """Keeps the results' files up to date, and passes events on to the display.

    ``trials.csv``, ``pareto.json`` and ``report.html`` are rewritten as a whole, so
    in a long study not after every trial: at most a twentieth of the time is spent on it. After a
    kill they may be out of date; ``study.db`` is not.
    """

    def __init__(
        self,
        folder: RunFolder,
        tuner: Tuner,
        costs: CostModel,
        display: Display,
        partition: str = "",
    ) -> None:
        self._folder, self._tuner, self._display = folder, tuner, display
        self._costs, self._partition = costs, partition
        self._calibrator, self._rescorer = Calibrator(), Rescorer(costs)
        self._next_write = 0.0

    def round_started(self, trial: int, number: int) -> None:
        """See :class:`Observer`."""
        self._display.round_started(trial, number)

    def trial_ended(self, outcome: Outcome) -> None:
        """See :class:`Observer`."""
        if time.monotonic() >= self._next_write:
            self.write()
        evaluated, _ = self.evaluated()
        number = outcome.proposal.number
        now = next(each for each in reversed(evaluated) if each.proposal.number == number)
        self._display.trial_ended(now, evaluated)

    def evaluated(self) -> tuple[list[Outcome], Calibration]:
        """All outcomes, re-evaluated with the latest calibration; and that calibration."""
        history = self._tuner.history()
        calibration = self._calibrator.corrections(history)
        return self._rescorer.rescore(history, calibration), calibration

    def write(
        self,
        known: KnownCosts | None = None,
        state: Literal["running", "interrupted"] = "running",
    ) -> Summary:
        """Write the files; the tuner predicts objectives with ``known`` from now on."""
        began = time.monotonic()
        study = self._folder.study
        evaluated, calibration = self.evaluated()
        summary = summarise(
            study,
            evaluated,
            calibration,
            self._tuner.predict(evaluated, known),
            self._tuner.changes,
            self._tuner.predict(evaluated, sampling=False),
            dominated=True,
        )
        summary = with_needs(summary, study, self._costs, calibration)
        weighed = importances(study.full_space, study.study.objectives, evaluated)
        spent = privacy_spent(study, self._tuner.history(), self._costs.fleet)
        summary = summary.model_copy(
            update={
                "state": state,
                "importance": weighed,
                "privacy": spent,
                "partition": self._partition,
            }
        )
        self._folder.write("trials.csv", trials_csv(study, evaluated))
        write_results(self._folder, summary)
        now = time.monotonic()
        self._next_write = now + _PAUSE * (now - began)
        return summary
