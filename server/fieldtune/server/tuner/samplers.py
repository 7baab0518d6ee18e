"""The samplers that a study file may name."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.load_object import load_object, searching
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.preload import preload
from fieldtune.server.bo.sampler import GreySampler
from fieldtune.server.bo.transfer import Earlier
from fieldtune.server.study.tuner_options import Phase

_NSGA2_POPULATION = 20


class Samplers:
    """Creates a sampler for each trial, so that a proposal depends on stored trials only.

    Args:
        name: one of :data:`~fieldtune.server.study.tuner_options.SAMPLERS`, or
            ``package.module:factory``. The factory is called for each trial with ``seed`` and
            ``known`` as keyword arguments and returns an Optuna sampler.
        seed: of the study.
        space: the parameters.
        import_path: folders that are searched first for a user's factory.
        prior: finished studies as prior knowledge, for ``grey``.
        within: parameters whose space has become narrower, with the new one, for ``grey``.
        anew: configurations that were infeasible before the trial of this number may be proposed
            again, since limits have changed; for ``grey``.
        beat: the baseline configuration, for ``grey``.

    Raises:
        StudyError: the factory cannot be imported, or a package is missing; from :meth:`of`, the
            factory raised or returned no sampler.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int,
        space: Mapping[str, BaseDistribution],
        import_path: Sequence[str] = (),
        prior: Sequence[Earlier] = (),
        within: Mapping[str, BaseDistribution] | None = None,
        anew: int = 0,
        beat: Mapping[str, object] | None = None,
    ) -> None:
        self._name, self._seed, self._space, self._prior = name, seed, space, prior
        self._within, self._anew, self._beat = within, anew, beat
        self._known: Formulas | None = None
        self._grey: GreySampler | None = None
        self.phase: Phase = "refine"
        """The phase of the next proposal."""
        self._factory = _imported(name, import_path) if ":" in name else None
        if name == "gp" and importlib.util.find_spec("torch") is None:
            raise StudyError(
                "tuner.name = 'gp' is Optuna's GPSampler, which needs torch: pip install torch, or "
                "choose 'grey'"
            )
        preload()

    def know(self, known: Formulas) -> None:
        """Use these known objectives and constraints from now on."""
        self._known, self._grey = known, None

    def forget(self) -> None:
        """Read finished trials again."""
        self._grey = None

    @property
    def own_start(self) -> bool:
        """Whether the sampler proposes the first trials itself."""
        return self._name != "tpe"

    @property
    def predictor(self) -> GreySampler:
        """The sampler that predicts trials, whichever proposes them."""
        if self._grey is None:
            # Constraints of a proposal are predicted exactly, so no limit needs a margin.
            self._grey = GreySampler(
                known=self._known,
                seed=self._seed,
                margin=None,
                space=self._space,
                prior=self._prior,
                within=self._within,
                anew=self._anew,
                beat=self._beat,
            )
        return self._grey

    def of(self, number: int) -> BaseSampler:
        """The sampler that proposes a trial."""
        if self._name == "grey":
            grey = self.predictor
            grey.phase = self.phase
            return grey
        seed = self.seed_of(number)
        with without_experimental_warnings():
            match self._name:
                case "random" | "mo-asha" | "fedex":  # they differ in how a trial is run
                    return optuna.samplers.RandomSampler(seed=seed)
                case "nsga2":
                    return optuna.samplers.NSGAIISampler(
                        seed=seed, population_size=_NSGA2_POPULATION
                    )
                case "gp":
                    return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
                case "tpe":
                    return optuna.samplers.TPESampler(
                        seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1
                    )
        try:
            made = self._factory(seed=seed, known=self._known) if callable(self._factory) else None
        except (Exception, SystemExit) as raised:  # user code may raise anything
            raise StudyError(
                f"tuner.name = {self._name!r} raised {type(raised).__name__}: {raised}"
            ) from raised
        if not isinstance(made, BaseSampler):
            raise StudyError(
                f"tuner.name = {self._name!r} returned a {type(made).__name__}: it must return an "
                "optuna.samplers.BaseSampler"
            )
        return made

    def seed_of(self, number: int) -> int:
        """The seed of a trial's own generator."""
        return (self._seed * 1_000_003 + number) % 2**32


@contextmanager
def without_experimental_warnings() -> Iterator[None]:
    """Suppress Optuna's warnings about experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _imported(name: str, import_path: Sequence[str]) -> object:
    with searching(import_path):
        factory: object = load_object(name, setting="tuner.name", error=StudyError)
    if not callable(factory):
        raise StudyError(f"tuner.name = {name!r} is not a function: name one that makes a sampler")
    return factory
