"""``fieldtune.api.load(DIR)``: a run's results as data frames, figures and recommendations.

Everything is read from the run folder's ``pareto.json`` and ``trials.csv``, so the figures are
those of the page and the terminal. pandas and Plotly are imported where they are needed.
"""

from __future__ import annotations

import io
import math
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
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.report import figures
from fieldtune.server.report.run_info import run_info
from fieldtune.server.results.rerank import Caps, caps_of, choose
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
        self,
        weights: Mapping[str, float] | None = None,
        confidence: float | None = None,
        limits: Mapping[str, Mapping[str, float]] | None = None,
    ) -> dict[str, Point]:
        """The point to use on each device type, by the study's rule with other weights and limits.

        Args:
            weights: objective -> weight of its gain on every device type; those of the study where
                left out.
            confidence: probability of being no worse than the defaults; the study's by default.
            limits: device type -> limit -> a narrower cap than the study's, in its unit. Dominated
                trials are chosen from too. A device type that nothing fits any more is left out.

        Raises:
            UsageError: a name is no objective, no device type or no limit, a weight is below 0, or
                a cap is wider than the study's: what that ruled out was never trained.
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
        least = rule.confidence if confidence is None else confidence
        own = caps_of(run_info(self.folder, self.summary).study, list(self.summary.devices))
        for device, caps in (limits or {}).items():
            self._check_limits(device, caps, own)
        on = {
            device: rule.weights_on(device) | dict(weights or {})
            for device in self.summary.recommended
        }
        found = choose(self.summary, on, least, limits, own)
        return {device: self.summary.point(trial) for device, trial in found.items()}

    def _check_limits(self, device: str, caps: Mapping[str, float], own: Caps) -> None:
        if device not in self.summary.devices:
            raise UsageError(
                f"{device!r} is not in this study's fleet"
                f"{did_you_mean(device, self.summary.devices)}; it has "
                f"{', '.join(self.summary.devices)}"
            )
        known = DeviceLimits.__dataclass_fields__
        for name, cap in caps.items():
            if name not in known:
                raise UsageError(
                    f"{name!r} is no limit of a device type{did_you_mean(name, known)}; there are "
                    f"{', '.join(known)}"
                )
            most = own.get(device, {}).get(name, math.inf)
            if not 0 < cap <= most:
                raise UsageError(
                    f"A limit can only be narrowed, as what the study's ruled out was never "
                    f"trained: {name} = {cap:g} on {device} must be above 0"
                    + (f" and at most {most:g}" if most < math.inf else "")
                )

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
