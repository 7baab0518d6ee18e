"""Which share of the search space is feasible, estimated from a random sample.

Costs of the sampled configurations are predicted; nothing is trained. Each architecture in the
sample is compiled once, and the study finds it in the artefact cache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import CompileError, InfeasibleError
from fieldtune.server.costs.architecture_costs import Calibration, FleetCosts
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.outcomes.trial import Completed, Outcome, worst_constraint
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration, Value

SAMPLED_CONFIGURATIONS = 1000
SAMPLED_ARCHITECTURES = 48
"""The most that are compiled, since each takes about a second; configurations of any others are
left out of the sample."""


@dataclass(frozen=True)
class Screening:
    """How many of ``sampled`` configurations are feasible, and how many each limit rules out."""

    sampled: int
    architectures: int
    feasible: tuple[Configuration, ...]
    ruled_out: Mapping[str, int]
    """Limit -> number of configurations that violate it on too many clients."""
    fitting: Mapping[str, int]
    """Device type -> number of configurations that fit on all of its clients."""
    tightest: Mapping[str, float]
    """Limit -> the smallest violation in the sample."""
    sufficing: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Where nothing is feasible: limit as the study file names it -> its cap, and the one that
    suffices for the configuration that comes closest."""
    not_compiled: Mapping[str, str] = field(default_factory=dict)
    """Architecture -> why it cannot be compiled; its configurations are not feasible."""

    def explain(self) -> str:
        """For people: the share of the space that each limit rules out."""
        if not self.ruled_out:
            return "no limit rules anything out"
        return ", ".join(
            f"{limit} rules out {100 * count / self.sampled:.0f} %"
            for limit, count in sorted(self.ruled_out.items(), key=lambda item: -item[1])
        )


def screen(
    study: StudyConfig,
    costs: CostModel,
    artefacts: Artefacts,
    *,
    seed: int,
    calibration: Calibration | None = None,
    compiles: bool = True,
) -> Screening:
    """Predict the costs of a uniform sample of the space.

    Without ``compiles`` the sample is of what is compiled already, and may be empty.

    Raises:
        CompileError: no architecture in the sample can be compiled.
    """
    sample = study.full_space.sample(SAMPLED_CONFIGURATIONS, seed)
    architectures = {study.architecture(configuration): configuration for configuration in sample}
    kept = dict(list(architectures.items())[:SAMPLED_ARCHITECTURES])
    if not compiles:
        kept = {key: each for key, each in kept.items() if artefacts.is_compiled(each)}
    futures = {key: artefacts.of(configuration) for key, configuration in kept.items()}
    not_compiled: dict[str, str] = {}
    for key, future in futures.items():
        try:
            costs.learn(kept[key], future.result().manifest)
        except CompileError as refused:
            not_compiled[key] = str(refused)
            if len(not_compiled) == len(futures):
                raise
    judged = [each for each in sample if study.architecture(each) in kept]
    ruled_out: Counter[str] = Counter()
    fitting: Counter[str] = Counter()
    tightest: dict[str, float] = {}
    feasible = []
    closest: FleetCosts | None = None
    for configuration in judged:
        if study.architecture(configuration) in not_compiled:
            continue
        found = costs.of(configuration, calibration or {})
        if closest is None or distance(found) < distance(closest):
            closest = found
        if found.feasible:
            feasible.append(configuration)
        for limit, violation in found.constraints.items():
            tightest[limit] = min(violation, tightest.get(limit, violation))
            if violation > 0 and limit != "coverage":
                ruled_out[limit] += 1
        for name, clients in costs.fleet.clients_of.items():
            fitting[name] += costs.fleet.fitting(name, found.fits) == clients
    return Screening(
        len(judged), len(kept), tuple(feasible), dict(ruled_out), dict(fitting), tightest,
        {} if feasible or closest is None else sufficing(study, costs.fleet, closest),
        not_compiled,
    )  # fmt: skip


def distance(costs: FleetCosts) -> tuple[float, float]:
    """A key to sort configurations by how far they are from feasible; coverage breaks ties.

    The first number is above 0 where it is infeasible: coverage and epsilon are the constraints of
    the fleet as a whole. Epsilon is infinite where no client can take part.
    """
    coverage = costs.constraints["coverage"]
    return max(coverage, costs.constraints.get("epsilon", -1.0)), coverage


def sufficing(
    study: StudyConfig, fleet: FleetGroups, costs: FleetCosts
) -> dict[str, tuple[float, float]]:
    """The limits with which a configuration would be feasible.

    Returns:
        limit as the study file names it -> its value, and the lowest one that suffices, rounded up
        to three digits; only those that have to be raised.
    """
    found, limit = _sufficing_caps(study, fleet, costs.gaps), study.limits.epsilon
    if limit is not None and (gap := costs.constraints["epsilon"]) > 0 and math.isfinite(gap):
        found["limits.epsilon"] = limit, _rounded_up(limit * (1 + gap))
    return found


def shown_limits(limits: Mapping[str, tuple[float, float]]) -> str:
    """For people: what :func:`sufficing` returns."""
    return " and ".join(
        f"{name} = {needed:g} (it is {cap:g})" for name, (cap, needed) in limits.items()
    )


def _sufficing_caps(
    study: StudyConfig, fleet: FleetGroups, gaps: NDArray[np.float64]
) -> dict[str, tuple[float, float]]:
    """The caps with which as many clients as needed could train a configuration.

    ``gaps`` are its used / cap - 1 ``[limit, group]``.
    """
    found: dict[str, tuple[float, float]] = {}
    clients = 0
    for index in gaps.max(axis=0).argsort(kind="stable"):
        if clients >= fleet.needed:
            break
        clients += int(fleet.group_clients[index])
        profile = fleet.groups[index].profile
        for name, gap in zip(fleet.limit_names, gaps[:, index], strict=True):
            cap = getattr(fleet.limits[profile], name)
            if gap > 0:
                own = study.limits.devices.get(profile)
                is_own = own is not None and getattr(own, name) is not None
                key = f'limits."{profile}".{name}' if is_own else f"limits.{name}"
                needed = max(_rounded_up(cap * (1 + float(gap))), found.get(key, (0.0, 0.0))[1])
                found[key] = cap, needed
    return found


def _rounded_up(value: float) -> float:
    """To three significant digits, and never below the value."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / step * (1 - 1e-12)) * step:.3g}")


def find_feasible(
    study: StudyConfig,
    costs: CostModel,
    artefacts: Artefacts,
    *,
    seed: int,
    calibration: Calibration | None = None,
) -> Configuration:
    """A feasible configuration from a random sample of the space.

    Raises:
        InfeasibleError: the sample holds none; the message names the limit that excludes most.
    """
    screening = screen(study, costs, artefacts, seed=seed, calibration=calibration)
    if not screening.feasible:
        raise InfeasibleError(impossible(study, screening))
    return screening.feasible[0]


def impossible(study: StudyConfig, screening: Screening) -> str:
    """The message for a study in which no sampled configuration is feasible."""
    return (
        f"Nothing in the space fits {100 * study.limits.coverage:g} % of the fleet (sampled "
        f"{screening.sampled} configurations): {screening.explain()}. The closest one would do "
        f"with {shown_limits(screening.sufficing)}: raise that, lower limits.coverage, or widen "
        "the space"
    )


def check_queue(
    study: StudyConfig,
    history: Sequence[Outcome],
    costs: CostModel,
    artefacts: Artefacts,
) -> None:
    """Refuse a queued configuration that has not been tried yet and is infeasible.

    Raises:
        InfeasibleError: there is one; the message says which limit it exceeds.
    """
    tried = [values for outcome in history for values in _tried(outcome)]
    names = study.full_space.parameters()
    for number, entry in enumerate(study.queue, start=1):
        if entry.keys() != names.keys() or any(values == entry for values in tried):
            continue
        configuration = study.full_space.configuration(entry)
        costs.learn(configuration, artefacts.of(configuration).result().manifest)
        found = costs.of(configuration, {})
        if not found.feasible:
            limit = worst_constraint(found.constraints)
            raise InfeasibleError(
                f"queue, entry {number}: the limits rule it out; it exceeds {limit} by "
                f"{100 * found.constraints[limit]:.0f} %: change it, or raise the limit"
            )


def _tried(outcome: Outcome) -> list[dict[str, Value]]:
    """The configuration of a trial and, with FedEx, those that shared its training."""
    values = outcome.proposal.configuration.flat()
    choice = outcome.learned.choice if isinstance(outcome, Completed) else None
    others = choice.configurations if choice else ()
    return [values, *({**values, **other} for other in others)]
