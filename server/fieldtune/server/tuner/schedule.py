"""The phases of a study: explore, refine, tune (close to the front), validate (repeat finalists).

A trial's phase follows from the share of the budget that was used when it was proposed, so it
depends on the order of the trials only. Finalists are repeated until what is recommended is
settled, within a share of the budget; what is left of the share is used as the phase before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from fieldtune.server.bo.sampler import even_start
from fieldtune.server.outcomes.trial import Completed, Infeasible, Outcome, Proposal
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration, Parameter, Space, Value
from fieldtune.server.study.tuner_options import Phase

_ROUNDING = 1e-9
VALIDATED = 0.2
"""Share of the budget that may be used for repetitions where the study file states none."""
_LOOKS_ALWAYS, _LOOKS_LESS, _RAREST_LOOK = 256, 64, 64
"""Up to 256 trials, each one is preceded by a check of what is to be repeated; after 64 more, every
second one is, and so on, down to every 64th."""
AGAIN_EVERY, AGAIN_MOST = 10, 2
"""The defaults are repeated once every 10 trials, at most twice."""


class Schedule:
    """The phases of a study.

    Args:
        study: its ``tuner.phases`` and space.
    """

    def __init__(self, study: StudyConfig) -> None:
        shares = study.tuner.phases
        self._explore = shares.get("explore")
        self._first = even_start(len(study.full_space.parameters()))
        self._validate = 1 - shares.get("validate", _validated_by_default(study))
        self._tune = self._validate - shares.get("tune", 0.0)
        self._parallel = study.study.parallel

    def phase(self, trials: int, share: float, *, settled: bool = False) -> Phase:
        """The phase of the next trial.

        Args:
            trials: sent to devices before it.
            share: used share of the budget.
            settled: whether nothing needs to be repeated.
        """
        if not settled and self._validate < 1 and share >= self._validate - _ROUNDING:
            return "validate"
        if self._tune < self._validate and share >= self._tune - _ROUNDING:
            return "tune"
        even = trials < self._first if self._explore is None else share < self._explore - _ROUNDING
        return "explore" if even else "refine"

    def is_last(self, trials: int, share: float) -> bool:
        """Whether a new configuration could not be repeated within the budget.

        Its outcome is known once as many trials have been proposed as are trained at a time; what a
        trial takes of the budget is taken to be what those so far took.

        Args:
            trials: sent to devices so far.
            share: used share of the budget.
        """
        return trials > 0 and 1 - share <= self._parallel * share / trials + _ROUNDING

    def looks(self, trials: int, share: float, before: str) -> bool:
        """Whether to check, in the phase ``validate``, what needs to be repeated.

        The check predicts all trials. That takes the longer the more there are, so it becomes
        rarer; it is always done after a repetition, and for the last trials.

        Args:
            trials: sent to devices so far.
            share: used share of the budget.
            before: the phase of the latest proposal.
        """
        every = min(1 + max(trials - _LOOKS_ALWAYS, 0) // _LOOKS_LESS, _RAREST_LOOK)
        return trials % every == 0 or before == "validate" or self.is_last(trials, share)


def _validated_by_default(study: StudyConfig) -> float:
    """The share of the budget for repetitions where the study file states none."""
    if study.tuner.exploration is not None or "refine" in study.tuner.phases:
        return 0.0  # FedEx cannot repeat a configuration; or the phases take the whole budget
    return min(VALIDATED, 1 - sum(study.tuner.phases.values()))


def defaults_again(
    study: StudyConfig,
    sent: int,
    known: Sequence[Outcome],
    history: Sequence[Outcome],
    in_flight: Sequence[Proposal],
) -> Configuration | None:
    """The study's defaults, if they are to be repeated with another seed now; else None.

    They are the baseline of the recommendation, which should not depend on a single lucky or
    unlucky run. So they are repeated after ten trials and after twenty.

    Args:
        study: its ``[tuner]`` section.
        sent: trials sent to devices so far.
        known: outcomes that the next trial may know.
        history: all outcomes.
        in_flight: proposals that are being trained.
    """
    first = next((each for each in known if each.proposal.number == 0), None)
    if not isinstance(first, Completed) or study.tuner.exploration:
        return None
    defaults = first.proposal.configuration
    runs, due = 0, min(sent // AGAIN_EVERY, AGAIN_MOST)
    for proposal in chain((outcome.proposal for outcome in history), in_flight):
        runs += proposal.configuration.key == defaults.key
        if runs > due:  # stops early, however long the study is
            return None
    return defaults


def untried_model(
    study: StudyConfig, history: Sequence[Outcome], in_flight: Sequence[Proposal]
) -> Configuration | None:
    """A configuration of a model that was not trained yet; None where there is no such model.

    It has the defaults of all other parameters; where limits have ruled that out, the smallest
    model of its kind; then that with the least training. Where limits rule out these as well, the
    model is left to the sampler. What limits rule out costs no device anything.

    Args:
        study: its models and space.
        history: all outcomes.
        in_flight: proposals that are being trained.
    """
    if len(study.task.models) == 1:
        return None
    trained = {study.model_of(proposal.configuration)[0] for proposal in in_flight}
    ruled_out = Counter[str]()
    for each in history:
        if len(trained) == len(study.task.models):  # so it ends early, however long the study is
            return None
        model = study.model_of(each.proposal.configuration)[0]
        if isinstance(each, Infeasible):
            ruled_out[model] += 1
        else:
            trained.add(model)
    for model in study.task.models:
        ways = _ways_to_try(study.full_space, model)
        if model not in trained and ruled_out[model] < len(ways):
            return ways[ruled_out[model]]
    return None


def _ways_to_try(space: Space, model: str) -> list[Configuration]:
    """Configurations of a model, each with lower costs than the one before."""
    defaults = space.defaults()
    named = replace(defaults, model={**defaults.model, "model": model})
    small = replace(named, model={**_smallest(space.model, defaults.model), "model": model})
    least = {name: space.client[name] for name in space.client if name == "local_epochs"}
    few = {name: space.server[name] for name in space.server if name == "clients_per_round"}
    cheap = replace(
        small,
        client={**defaults.client, **_smallest(least, defaults.client)},
        server={**defaults.server, **_smallest(few, defaults.server)},
    )
    return list({each.key: each for each in (named, small, cheap)}.values())


def _smallest(
    parameters: Mapping[str, Parameter], defaults: Mapping[str, Value]
) -> dict[str, Value]:
    """The lowest value of each number, the default of everything else."""
    lowest = {}
    for name, parameter in parameters.items():
        values = parameter.choices or parameter.bounds()
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        lowest[name] = min(numbers) if len(numbers) == len(values) else defaults[name]
    return lowest
