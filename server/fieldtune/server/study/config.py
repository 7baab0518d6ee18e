"""The study file: one TOML file becomes one frozen :class:`StudyConfig`.

``docs/study-file.md`` documents every key; a test compares it with these models.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from fieldtune.client.contract.messages import METRICS, RECONSTRUCTION
from fieldtune.profiles.common.errors import did_you_mean
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.compiler.manifest import (
    DEFAULTS,
    HYPERPARAMETERS,
    MODELS,
    Extra,
    Loss,
    Optimizer,
    Variant,
)
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import (
    COST_MEASURES,
    MEASURES,
    Objective,
    StoredObjective,
    parse_objective,
)
from fieldtune.server.study.partition import PartitionSection
from fieldtune.server.study.ranges import out_of_range
from fieldtune.server.study.section import Section
from fieldtune.server.study.space import SECTIONS, Configuration, Parameter, Scalar, Space, Value
from fieldtune.server.study.tuner_options import TunerSection

CLIENT_DEFAULTS: dict[str, Value] = {
    **{name: value for name, value in DEFAULTS.items() if name != "seed"},
    "batch_size": 8,
    "local_epochs": 1,
}
"""Settings of the client's trainer, with the values for those that the space leaves out."""

SERVER_DEFAULTS: dict[str, Value] = {
    "clients_per_round": 10,
    "server_learning_rate": 1.0,
    "server_momentum": 0.0,
}
"""Settings of the server side, likewise."""

MAX_OBJECTIVES = 4

BUDGETS = ("trials", "device_hours", "energy_j", "sent_bytes")
"""Keys of ``[study]`` that limit it; it ends when any that is set is used up."""


class StudySection(Section):
    """``[study]``: budget, rounds and objectives."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    device_hours: float | None = Field(default=None, gt=0)
    """Hours that all devices together may be busy."""
    energy_j: float | None = Field(default=None, gt=0)
    """Joules that all devices together may use for it."""
    sent_bytes: float | None = Field(default=None, gt=0)
    """Bytes that all devices together may send."""
    rounds: int = Field(ge=1, le=1_000_000)
    objectives: tuple[StoredObjective, ...] = Field(
        default=tuple(MEASURES[name] for name in ("error", "inference_ms", "energy_j")),
    )
    seed: int = Field(default=0, ge=0, lt=2**63)
    parallel: int = Field(default=4, ge=1, le=10_000)
    """Trials that are trained at the same time. It changes the results: each proposal is made
    without knowing the trials that are still being trained."""

    @field_validator("objectives", mode="before")
    @classmethod
    def _known(cls, entries: object) -> object:
        if not isinstance(entries, (list, tuple)):
            raise ValueError('must be a list of measures, such as ["error", "energy_j"]')
        if not 1 <= len(entries) <= MAX_OBJECTIVES:
            raise ValueError(
                f"names {len(entries) or 'no'} objectives: name 1 to {MAX_OBJECTIVES}, and give "
                "what else must hold as [limits]"
            )
        found = [e if isinstance(e, Objective) else parse_objective(str(e)) for e in entries]
        names = [objective.name for objective in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"names the objective {twice[0]!r} twice: name each once")
        return tuple(found)

    @model_validator(mode="after")
    def _has_budget(self) -> StudySection:
        if all(getattr(self, budget) is None for budget in BUDGETS):
            raise ValueError(
                f"has no stopping criterion: set trials, or a budget ({', '.join(BUDGETS[1:])})"
            )
        return self

    @property
    def counts_costs(self) -> bool:
        """Whether a budget limits what trials cost, rather than just their number."""
        return any(getattr(self, budget) is not None for budget in BUDGETS[1:])


class TaskSection(Section):
    """``[task]``: data, model and metric."""

    data: str | None = None
    """The dataset for simulated clients; real devices have their own data."""
    model: str | tuple[str, ...]
    """A model's name, or several: which one is then a parameter of the search."""
    metric: str = "accuracy"
    loss: Loss = "sparse_categorical_crossentropy"
    """What training minimises: a classifier's cross-entropy, or the reconstruction error between
    the model's output and its input."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Of the cross-entropy (Szegedy et al. 2016, section 7)."""
    optimizer: Optimizer = "sgd"
    """What clients train with; its hyperparameters belong in ``[space.client]``."""
    partition: PartitionSection = PartitionSection()
    variants: tuple[Variant, ...] = ("fp32", "fp16", "dynamic")
    """Conversions to write and measure for each point of the front."""
    calibration: str | None = None
    """``package.module:function`` that returns samples, from which int8 conversion takes the value
    ranges of activations."""

    @model_validator(mode="after")
    def _calibrated(self) -> TaskSection:
        if "fp32" not in self.variants or len(set(self.variants)) != len(self.variants):
            raise ValueError("has variants without 'fp32' or one twice: list each once, fp32 too")
        if "int8" in self.variants and self.calibration is None:
            raise ValueError(
                "has the variant int8, which needs calibration = 'package.module:function' that "
                "returns samples (no client's data leaves it)"
            )
        return self

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METRICS and ":" not in name:
            raise ValueError(
                f"is {name!r}{did_you_mean(name, METRICS)}; known are "
                f"{', '.join(METRICS)}, or 'package.module:function'"
            )
        return name

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (value,) if isinstance(value, str) else value
        for name in names:
            if name not in MODELS and ":" not in name:
                raise ValueError(
                    f"names the unknown model {name!r}{did_you_mean(name, MODELS)}; known are "
                    f"{', '.join(MODELS)}, or 'package.module:function'"
                )
        if not names or len(set(names)) != len(names):
            raise ValueError("must name at least one model, and each once")
        return value

    @model_validator(mode="after")
    def _one_kind_of_task(self) -> TaskSection:
        if self.reconstructs and self.label_smoothing:
            raise ValueError(f"has label_smoothing, which loss = {self.loss!r} has no labels for")
        if self.reconstructs and not (self.own_metric or self.metric == "accuracy"):
            raise ValueError(
                f"has the metric {self.metric!r}, which needs labels, with loss = {self.loss!r}, "
                "which has none: leave it out, or give 'package.module:function'"
            )
        if "autoencoder" in self.models and not self.reconstructs:
            raise ValueError(
                "has the model 'autoencoder' with a classifier's loss: set loss = 'mse'"
            )
        return self

    @property
    def own_metric(self) -> bool:
        """Whether the metric is the user's own function."""
        return ":" in self.metric

    @property
    def reconstructs(self) -> bool:
        """Whether the model reconstructs its input (an autoencoder), rather than classifies it."""
        return self.loss in RECONSTRUCTION

    @property
    def models(self) -> tuple[str, ...]:
        """The models to choose from."""
        return (self.model,) if isinstance(self.model, str) else self.model


class FleetSection(Section):
    """``[fleet]``: how many clients, and the share of each device profile."""

    clients: int = Field(ge=1, le=1_000_000)
    devices: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares(self) -> FleetSection:
        total = sum(self.devices.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"has shares that sum to {total:g}: they must sum to 1")
        return self


class ServerSection(Section):
    """``[server]``: how the coordinator makes one model of the clients' updates."""

    aggregation: Literal["mean", "trimmed_mean", "median", "krum", "multi_krum"] = "mean"
    """The rule; ``mean`` weights each client by its samples."""
    malicious_share: float = Field(default=0.2, ge=0, lt=0.5)
    """Share of a round's clients that the rules other than ``mean`` withstand."""
    clip: bool = True
    """Whether an update far larger than the others is scaled down before they are aggregated."""


class Caps(Section):
    """Upper bounds on what a configuration may need on a device."""

    memory_mib: float | None = Field(default=None, gt=0)
    storage_mib: float | None = Field(default=None, gt=0)
    round_s: float | None = Field(default=None, gt=0)
    inference_ms: float | None = Field(default=None, gt=0)
    energy_j: float | None = Field(default=None, gt=0)


class LimitsSection(Caps):
    """``[limits]``: caps for every device, and stricter ones per device type."""

    coverage: float = Field(default=1.0, gt=0, le=1)
    """Share of the fleet that must be able to take part."""
    devices: dict[str, Caps] = Field(default_factory=dict)

    def for_device(self, profile: str, default: DeviceLimits) -> DeviceLimits:
        """A device type's caps: its own, else the general ones, else the profile's."""
        own = self.devices.get(profile, Caps())

        def cap(name: str) -> float | None:
            stated: tuple[float | None, ...] = tuple(
                getattr(caps, name) for caps in (own, self, default)
            )
            return next((value for value in stated if value is not None), None)

        return DeviceLimits(**{name: cap(name) for name in Caps.model_fields})


class StudyConfig(Section):
    """A whole study file."""

    study: StudySection
    task: TaskSection
    fleet: FleetSection
    server: ServerSection = ServerSection()
    limits: LimitsSection = LimitsSection()
    tuner: TunerSection = TunerSection()
    decision: DecisionSection = DecisionSection()
    space: Space
    queue: tuple[dict[str, Scalar], ...] = ()
    """``[[queue]]``: configurations to try first; parameters left out are chosen by the tuner."""

    @model_validator(mode="after")
    def _consistent(self) -> StudyConfig:
        seen: dict[str, str] = {}
        for section in SECTIONS:
            for name in getattr(self.space, section):
                if name in seen:
                    raise ValueError(
                        f"space.{section}.{name} has the name of space.{seen[name]}.{name}: "
                        "names must differ"
                    )
                seen[name] = section
        if "model" in seen:
            raise ValueError("'model' is no parameter's name: list the models in task.model")
        self._check_objectives()
        self._check_weights()
        if self.rungs and self.rungs[-1] >= self.study.rounds:
            raise ValueError(
                f"tuner.rungs has {self.rungs[-1]}, but a trial has {self.study.rounds} rounds: "
                "a rung must come before the last one"
            )
        if "reduction" in self.tuner.model_fields_set and not self.rungs:
            remedy = "set tuner.rungs too" if self.study.rounds > 1 else "leave it out"
            raise ValueError(
                "tuner.reduction is set, but there are no rungs at which it would hold: " + remedy
            )
        for name in self.limits.devices:
            if name not in self.fleet.devices:
                raise ValueError(
                    f"limits.{name!r} narrows a device type that the fleet does not have"
                    f"{did_you_mean(name, self.fleet.devices)}"
                )
        if self.tuner.exploration and all(p.count() == 1 for p in self.space.client.values()):
            raise ValueError(
                "tuner.name = 'fedex' chooses among client configurations, and space.client varies "
                "nothing: give it a parameter with several values, or choose 'random'"
            )
        self._check_queue()
        self._check_known("client", self.client_settings)
        self._check_known("server", tuple(SERVER_DEFAULTS))
        if (clients := self.space.server.get("clients_per_round")) is not None:
            highest = max(clients.choices or clients.bounds())
            if isinstance(highest, str) or highest > self.fleet.clients:
                raise ValueError(
                    f"space.server.clients_per_round goes up to {highest}, "
                    f"but the fleet has {self.fleet.clients} clients"
                )
        return self

    def _check_objectives(self) -> None:
        """Refuse objectives that the task does not measure.

        A model that reconstructs its input has a loss but no accuracy; the AUC is computed only
        where it is the metric.
        """
        known = (
            "loss",
            *(("error", "worst_error", "metric") if self.task.own_metric else ()),
            *COST_MEASURES,
        )
        for name in (objective.name for objective in self.study.objectives):
            if self.task.reconstructs and name not in known:
                raise ValueError(
                    f"study.objectives has {name!r}, which needs labels, with task.loss = "
                    f"{self.task.loss!r}, which has none; known are {', '.join(known)}"
                )
            if name == "auc" and self.task.metric != "auc":
                raise ValueError(
                    "study.objectives has 'auc', which clients compute only as the metric: set "
                    f"task.metric = 'auc' (it is {self.task.metric!r})"
                )

    def _check_weights(self) -> None:
        names = [objective.name for objective in self.study.objectives]
        for name in self.decision.weights:
            if name not in names:
                raise ValueError(
                    f"decision.weights has {name!r}, which is no objective of this study"
                    f"{did_you_mean(name, names)}; it has {', '.join(names)}"
                )
        if not any(self.decision.weight(name) for name in names):
            raise ValueError(
                "decision.weights are all 0: give at least one objective a weight above 0"
            )

    def _check_queue(self) -> None:
        parameters = self.full_space.parameters()
        for number, entry in enumerate(self.queue, start=1):
            for name, value in entry.items():
                if name not in parameters:
                    raise ValueError(
                        f"queue, entry {number}: {name} is no parameter of the space"
                        f"{did_you_mean(name, parameters)}; it has {', '.join(parameters)}"
                    )
                if not parameters[name].contains(value):
                    raise ValueError(
                        f"queue, entry {number}: {name} = {value!r} is not in the space, which "
                        f"takes {parameters[name]}"
                    )

    def _check_known(self, section: Literal["client", "server"], known: tuple[str, ...]) -> None:
        for name in getattr(self.space, section):
            if name not in known:
                raise ValueError(
                    f"space.{section}.{name} is not known{did_you_mean(name, known)}; "
                    f"known are {', '.join(known)}"
                )
            if wrong := out_of_range(name, getattr(self.space, section)[name]):
                raise ValueError(f"space.{section}.{name} {wrong}")

    @property
    def rungs(self) -> tuple[int, ...]:
        """Rounds after which early stopping compares trials, ascending, without the last round.

        By default ``mo-asha`` has two, and ``grey`` has one if a budget limits what trials cost:
        with a fixed number of trials, stopping one early saves nothing.
        """
        if self.tuner.rungs is not None:
            return self.tuner.rungs
        match self.tuner.name:
            case "mo-asha":
                parts = {9, 3}
            case "grey" if self.study.counts_costs:
                parts = {3}
            case _:
                return ()
        return tuple(sorted({self.study.rounds // part for part in parts} - {0}))

    @property
    def client_settings(self) -> tuple[str, ...]:
        """What ``[space.client]`` may name: settings of the trainer and of the optimizer."""
        own = HYPERPARAMETERS[self.task.optimizer]
        return ("batch_size", "local_epochs", *dict.fromkeys((*own, *get_args(Extra))))

    @property
    def extras(self) -> tuple[Extra, ...]:
        """Inputs of the artefact beyond the optimizer's hyperparameters."""
        return tuple(name for name in get_args(Extra) if name in self.space.client)

    @property
    def full_space(self) -> Space:
        """The space, with a parameter ``model`` where there are several models."""
        if len(self.task.models) == 1:
            return self.space
        choice = Parameter(choices=self.task.models, default=self.task.models[0])
        return Space(
            model={"model": choice, **self.space.model},
            client=self.space.client,
            server=self.space.server,
        )

    def architecture(self, configuration: Configuration) -> str:
        """The model and its parameters as text: equal for configurations that share an artefact."""
        return json.dumps(self.model_of(configuration), sort_keys=True)

    def model_of(self, configuration: Configuration) -> tuple[str, dict[str, Value]]:
        """The model's name and the arguments of its builder."""
        knobs = dict(configuration.model)
        return str(knobs.pop("model", self.task.models[0])), knobs
