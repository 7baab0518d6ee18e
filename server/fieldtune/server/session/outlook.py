"""Whether a study is finished: what random search, and what more trials, are expected to bring."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.report.history import box_of, growth_of_random
from fieldtune.server.report.trials_view import completed
from fieldtune.server.results.schema import Outlook, Summary
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED
from fieldtune.server.tuner.suggestions import prospects, random_draws

_DRAWS = 256
_NEXT = 5
"""Further trials whose expected gain is computed."""


def outlook(
    study: StudyConfig, summary: Summary, outcomes: Sequence[Outcome], known: KnownCosts
) -> Outlook | None:
    """The outlook of a study that has ended; None where too few trials are completed to predict.

    Args:
        study: it.
        summary: of its outcomes.
        outcomes: re-evaluated with the latest calibration.
        known: objectives and constraints of any configuration that need no training.
    """
    fitting = [o for o in outcomes if isinstance(o, Completed) and o.forecast.feasible]
    trained = completed(summary)
    if len(fitting) < FEWEST_PREDICTED or not trained:
        return None
    goals, seed = study.study.objectives, study.study.seed
    draws = random_draws(study.full_space, goals, fitting, known, seed=seed, count=_DRAWS)
    expected = growth_of_random(draws, box_of(trained, goals), len(summary.attempts))
    more = prospects(study.full_space, goals, fitting, known, seed=seed, most=_NEXT)
    gains = [each.gain for each in more if math.isfinite(each.gain)]
    return Outlook(random=[round(share, 6) for share in expected], more=gains)
