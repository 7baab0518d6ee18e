"""What the limits leave of a search space, found by forecasting a sample of it.

Nothing is trained; each architecture in the sample is compiled once, which the artefact cache
keeps for the study itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fieldtune.profiles.common.errors import InfeasibleError
from fieldtune.server.costs.forecast import Forecaster
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration

SAMPLE = 1000
MOST_ARCHITECTURES = 48
"""Compiling takes about a second each, so a larger space is judged by so many of them."""


@dataclass(frozen=True)
class Screening:
    """Of ``sampled`` configurations, how many each limit rules out."""

    sampled: int
    architectures: int
    feasible: tuple[Configuration, ...]
    ruled_out: Mapping[str, int]
    """Limit -> configurations for which it leaves too little of the fleet."""
    fitting: Mapping[str, int]
    """Device type -> configurations that fit on all of its clients."""
    tightest: Mapping[str, float]
    """Limit -> the smallest violation seen."""

    def explain(self) -> str:
        """Which limit rules out what share of the space."""
        if not self.ruled_out:
            return "no limit rules anything out"
        return ", ".join(
            f"{limit} rules out {100 * count / self.sampled:.0f} %"
            for limit, count in sorted(self.ruled_out.items(), key=lambda item: -item[1])
        )


def screen(
    study: StudyConfig,
    forecaster: Forecaster,
    artefacts: Artefacts,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Screening:
    """Forecast a uniform sample of the space; ``on_progress`` is told of compiled architectures."""
    sample = study.full_space.sample(SAMPLE, seed)
    architectures = {artefacts.key(configuration): configuration for configuration in sample}
    kept = dict(list(architectures.items())[:MOST_ARCHITECTURES])
    futures = {key: artefacts.of(configuration) for key, configuration in kept.items()}
    manifests = {}
    for done, (key, future) in enumerate(futures.items()):
        on_progress(done, len(futures))
        manifests[key] = future.result().manifest
    on_progress(len(futures), len(futures))
    judged = [configuration for configuration in sample if artefacts.key(configuration) in kept]
    ruled_out: Counter[str] = Counter()
    fitting: Counter[str] = Counter()
    tightest: dict[str, float] = {}
    feasible = []
    for configuration in judged:
        forecast = forecaster.forecast(configuration, manifests[artefacts.key(configuration)])
        if forecast.feasible:
            feasible.append(configuration)
        for limit, violation in forecast.constraints.items():
            tightest[limit] = min(violation, tightest.get(limit, violation))
            if violation > 0 and limit != "coverage":
                ruled_out[limit] += 1
        for name, device in forecast.devices.items():
            fitting[name] += device.fitting == device.clients
    return Screening(
        len(judged), len(kept), tuple(feasible), dict(ruled_out), dict(fitting), tightest
    )


def find_feasible(
    study: StudyConfig, forecaster: Forecaster, artefacts: Artefacts, *, seed: int
) -> Configuration:
    """A configuration that the limits allow.

    Raises:
        InfeasibleError: a large sample holds none; the message says which limit is to blame.
    """
    screening = screen(study, forecaster, artefacts, seed=seed)
    if not screening.feasible:
        raise InfeasibleError(impossible(study, screening))
    return screening.feasible[0]


def impossible(study: StudyConfig, screening: Screening) -> str:
    """The sentence for a study whose limits leave nothing."""
    worst = max(
        screening.ruled_out, key=lambda limit: screening.tightest[limit], default="coverage"
    )
    return (
        f"Nothing in the space fits {100 * study.limits.coverage:g} % of the fleet (sampled "
        f"{screening.sampled} configurations): {screening.explain()}. The closest one still "
        f"exceeds {worst} by {100 * max(screening.tightest.get(worst, 0), 0):.0f} %: raise that "
        "limit, lower limits.coverage, or widen the space"
    )
