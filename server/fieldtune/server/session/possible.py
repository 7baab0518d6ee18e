"""Whether anything in a space keeps the limits, found by compiling as little as possible."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import CompileError, InfeasibleError, NoModelFitsError
from fieldtune.server.costs.architecture_costs import FleetCosts
from fieldtune.server.costs.feasible_space import (
    SAMPLED_ARCHITECTURES,
    SAMPLED_CONFIGURATIONS,
    distance,
    impossible,
    screen,
    shown_limits,
    sufficing,
)
from fieldtune.server.costs.smallest import needed_by_any_model, no_model_fits
from fieldtune.server.session.setup import make_cost_model, model_defaults, profiles_of
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration


def check_limits(
    study: StudyConfig,
    members: Sequence[Description],
    artefacts: Artefacts,
    notes: Callable[[str], None],
) -> None:
    """Refuse limits that nothing can keep.

    What is compiled already is looked at first, then the defaults, the smallest architecture of
    each model, and the others: one that keeps the limits ends the search. ``notes`` is told what is
    known before the search ends. Where not even a model of no size keeps the limits, the smallest
    architectures alone are compiled, to tell what suffices.

    Raises:
        InfeasibleError: no sampled configuration keeps the limits.
        CompileError: the defaults cannot be compiled.
    """
    search = _Search(study, members, artefacts)
    if search.finds(*filter(artefacts.is_compiled, search.architectures)):
        return
    ascending = sorted(search.architectures[:SAMPLED_ARCHITECTURES], key=_size)
    smallest = {study.model_of(each)[0]: each for each in reversed(ascending)}.values()
    if needed := needed_by_any_model(study, members, profiles_of(study, members)):
        refused = no_model_fits(study, needed)
        notes(refused)
        if search.closest is None:
            search.finds(*smallest)
        would_do = search.would_do()
        closest = f"Of the compiled configurations, the closest {would_do}: r" if would_do else "R"
        raise NoModelFitsError(
            f"{refused} {closest}aise that, lower limits.coverage, or widen the space"
        )
    defaults = study.full_space.defaults()
    artefacts.of(defaults).result()
    if search.finds(defaults, *smallest):
        return
    others = [each for each in (*model_defaults(study), *ascending) if not search.costs.knows(each)]
    if others:
        notes(
            "The defaults and the smallest architecture of each model exceed the limits; the "
            f"closest {search.would_do()}. The others are compiled to see whether they need less"
        )
    if not search.finds(*others):
        screening = screen(study, search.costs, artefacts, seed=study.study.seed)
        if not screening.feasible:
            raise InfeasibleError(impossible(study, screening))


class _Search:
    """Compiles architectures until one keeps the limits.

    Args:
        study: the study.
        members: the fleet's clients.
        artefacts: compiles its models.
    """

    def __init__(
        self, study: StudyConfig, members: Sequence[Description], artefacts: Artefacts
    ) -> None:
        self._study, self._artefacts = study, artefacts
        self._sample = defaultdict[str, list[Configuration]](list)
        for each in study.full_space.sample(SAMPLED_CONFIGURATIONS, study.study.seed):
            self._sample[study.architecture(each)].append(each)
        self.architectures = [configurations[0] for configurations in self._sample.values()]
        """A configuration of each sampled architecture."""
        self.costs = make_cost_model(study, members)
        self.closest: FleetCosts | None = None
        """Of the configurations that were looked at."""

    def finds(self, *architectures: Configuration) -> bool:
        """Whether any of the sample, or the one given, keeps the limits with an architecture."""
        return any(map(self._keeps, architectures))

    def would_do(self) -> str:
        """For people: the limits with which the closest would fit; empty if none was compiled."""
        if self.closest is None:
            return ""
        limits = sufficing(self._study, self.costs.fleet, self.closest)
        return f"would do with {shown_limits(limits)}"

    def _keeps(self, architecture: Configuration) -> bool:
        sampled: Sequence[Configuration] = ()
        if not self.costs.knows(architecture):  # else its sample was looked at before
            sampled = self._sample.get(self._study.architecture(architecture), ())
        with suppress(CompileError):  # it is told where the architecture is needed
            manifest = self._artefacts.of(architecture).result().manifest
            self.costs.learn(architecture, manifest)
            for each in (architecture, *sampled):
                found = self.costs.of(each, {})
                if self.closest is None or distance(found) < distance(self.closest):
                    self.closest = found
                if found.feasible:
                    return True
        return False


def _size(architecture: Configuration) -> float:
    """A key to sort architectures by: the logarithms of a model's parameters, added up."""
    numbers = [value for value in architecture.model.values() if not isinstance(value, (str, bool))]
    return sum(math.log1p(max(value, 0.0)) for value in numbers)
