"""``fieldtune.api.load(DIR)``: a run's results as data frames, figures and recommendations.

Everything is read from the run folder's ``pareto.json`` and ``trials.csv``, so the figures are
those of the page and the terminal. pandas and Plotly are imported where they are needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cached_property
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.profiles.common.errors import (
    MissingExtraError,
    RunFolderError,
    UsageError,
    did_you_mean,
)
from fieldtune.server.report import figures
from fieldtune.server.results.run_folder import read_result, read_summary
from fieldtune.server.results.schema import Point, Summary

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def load(folder: str | Path) -> Run:
    """The results of a run folder, finished or still running.

    Args:
        folder: of a study that ``fieldtune tune`` has run.

    Raises:
        RunFolderError: it holds no results, or those of another version's schema.
        MissingExtraError: pandas or Plotly is not installed.
    """
    for name in ("pandas", "plotly"):
        if find_spec(name) is None:
            raise MissingExtraError("fieldtune.api", "notebook", name)
    return Run(Path(folder))


class Run:
    """The results of a study.

    Args:
        folder: the run folder.

    Attributes:
        folder: it.
        summary: all of ``pareto.json``, typed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary: Summary = read_summary(folder)
        self._objectives = [each.name for each in self.summary.objectives]

    @cached_property
    def trials(self) -> pd.DataFrame:
        """``trials.csv``: a row a trial, by its number."""
        import pandas as pd

        return pd.read_csv(io.StringIO(read_result(self.folder, "trials.csv")), index_col="number")

    @cached_property
    def front(self) -> pd.DataFrame:
        """The front and the defaults, a row a point, by trial.

        Columns: the hyperparameters; each objective with the ends of its interval (``error``,
        ``error_low``, ``error_high``), in its own unit; ``runs``; ``on_front``; ``recommended_for``
        (device types, separated by commas).
        """
        import pandas as pd

        on_front = {point.trial for point in self.summary.front}
        rows = {}
        for point in self.summary.deployable:
            chosen = [d for d, r in self.summary.recommended.items() if r.trial == point.trial]
            rows[point.trial] = {
                **point.configuration,
                **{
                    f"{name}{end}": value
                    for name, each in point.objectives.items()
                    for end, value in (("", each.value), ("_low", each.low), ("_high", each.high))
                },
                "runs": point.runs,
                "on_front": point.trial in on_front,
                "recommended_for": ", ".join(chosen),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trial")

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """Learning curves: ``trial``, ``round``, ``training_loss``, and the learned objectives.

        The training loss, after each round, is known of the points of the front; learned objectives
        are known at each rung of every trial and at its end.
        """
        import pandas as pd

        learned = [each.name for each in self.summary.objectives if each.learned]
        found: dict[tuple[int, int], dict[str, float]] = {}
        for point in self.summary.deployable:
            for number, loss in enumerate(point.losses, start=1):
                found.setdefault((point.trial, number), {})["training_loss"] = loss
        for attempt in self.summary.attempts:
            for number, values in attempt.curve.items():
                found.setdefault((attempt.trial, number), {}).update(values)
        rows = [{"trial": t, "round": n, **values} for (t, n), values in sorted(found.items())]
        return pd.DataFrame(rows, columns=["trial", "round", "training_loss", *learned])

    @cached_property
    def clients(self) -> pd.DataFrame:
        """The error of each client with each file: ``trial``, ``variant``, ``device``, ``error``.

        Clients are not named: those of a device type are in the order of their errors.
        """
        import pandas as pd

        rows = [
            (point.trial, variant, device, error)
            for point in self.summary.deployable
            for variant, file in point.variants.items()
            for device, errors in file.client_errors.items()
            for error in errors
        ]
        return pd.DataFrame(rows, columns=["trial", "variant", "device", "error"])

    @property
    def figures(self) -> dict[str, Figure]:
        """Plotly figures: ``front``, ``history`` and ``parallel``."""
        return figures.figures(self.summary)

    def recommend(
        self, weights: Mapping[str, float] | None = None, confidence: float | None = None
    ) -> dict[str, Point]:
        """The point to use on each device type, by the study's rule with other weights.

        Args:
            weights: objective -> weight of its gain; those of the study where left out.
            confidence: probability of being no worse than the defaults; the study's by default.

        Raises:
            UsageError: a name is no objective, or a weight is below 0.
            RunFolderError: an earlier version wrote the run, and no longer tells how points rank.
        """
        rule = self.summary.decision
        if rule is None:
            raise RunFolderError(
                f"{self.folder} was written by an earlier version, which did not rank its points: "
                "run its 'fieldtune tune' command once more"
            )
        for name, weight in (weights or {}).items():
            if name not in self._objectives:
                raise UsageError(
                    f"{name!r} is no objective of this study"
                    f"{did_you_mean(name, self._objectives)}; it has {', '.join(self._objectives)}"
                )
            if not weight >= 0:
                raise UsageError(f"The weight of {name} is {weight}: give 0 or more")
        by = {**rule.weights, **(weights or {})}
        least = rule.confidence if confidence is None else confidence
        return {
            device: self.summary.point(trial)
            for device, chosen in self.summary.recommended.items()
            if (trial := chosen.best(by, least)) is not None
        }

    def _repr_html_(self) -> str:
        """What a notebook shows: recommendations, then the front."""
        rows = "".join(
            f"<tr><td>{escape(device)}</td><td>{chosen.trial}</td><td>{escape(chosen.why)}</td></tr>"
            for device, chosen in self.summary.recommended.items()
        )
        table: str = self.front.to_html(float_format="{:.3g}".format)
        return (
            f"<h3>{escape(self.summary.study)}</h3>"
            f"<table><tr><th>device type</th><th>trial</th><th>why</th></tr>{rows}</table>{table}"
        )

    def __repr__(self) -> str:
        return f"<Run {self.summary.study}: {len(self.summary.attempts)} trials, {self.folder}>"
