"""The study file: one TOML file becomes one frozen :class:`StudyConfig`.

``docs/study-file.md`` documents every key; a test compares it with these models.
"""

from __future__ import annotations

import json
from typing import Literal, get_args

from pydantic import model_validator

from fieldtune.profiles.common.errors import did_you_mean
from fieldtune.server.compiler.manifest import HYPERPARAMETERS, Extra
from fieldtune.server.study.algorithms import check_algorithms
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.fleet_options import FleetSection
from fieldtune.server.study.limit_options import LimitsSection
from fieldtune.server.study.modes import check_modes, check_target
from fieldtune.server.study.objectives import COST_MEASURES
from fieldtune.server.study.private_averaging import check_private
from fieldtune.server.study.ranges import RANGES, out_of_range
from fieldtune.server.study.section import Section
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.settings import ALGORITHM, SERVER_DEFAULTS
from fieldtune.server.study.space import SECTIONS, Configuration, Parameter, Scalar, Space, Value
from fieldtune.server.study.study_options import StudySection
from fieldtune.server.study.task_options import TaskSection
from fieldtune.server.study.tuner_options import TunerSection


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
        for table, verb, named in (
            ("limits", "narrows", self.limits.devices),
            ("decision", "is for", self.decision.devices),
        ):
            for name in named:
                if name not in self.fleet.devices:
                    raise ValueError(
                        f"{table}.{name!r} {verb} a device type that the fleet does not have"
                        f"{did_you_mean(name, self.fleet.devices)}"
                    )
        if self.tuner.exploration and all(p.count() == 1 for p in self.space.client.values()):
            raise ValueError(
                "tuner.name = 'fedex' chooses among client configurations, and space.client varies "
                "nothing: give it a parameter with several values, or choose 'random'"
            )
        explores = self.tuner.name == "fedex"
        check_target(self.study, self.limits, explores=explores)
        self._check_queue()
        self._check_known("client", self.client_settings)
        self._check_known("server", self.server_settings)
        check_algorithms(self.server, self.task, self.tuner, self.space)
        check_private(
            self.server, self.limits, self.space,
            [objective.name for objective in self.study.objectives],
            self.fleet.clients, explores=self.tuner.exploration is not None,
        )  # fmt: skip
        check_modes(self.server, self.space, self.fleet.clients, explores=explores)
        if (clients := self.space.server.get("clients_per_round")) is not None:
            highest = max(clients.extremes())
            if isinstance(highest, str) or highest > self.fleet.clients:
                raise ValueError(
                    f"space.server.clients_per_round goes up to {highest}, "
                    f"but the fleet has {self.fleet.clients} clients: lower it, or raise "
                    "fleet.clients"
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
            "epsilon",
            "time_h",
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
        own = {f".{device!r}": self.decision.for_device(device) for device in self.decision.devices}
        for where, decision in {"": self.decision, **own}.items():
            for name in decision.weights:
                if name not in names:
                    raise ValueError(
                        f"decision{where}.weights has {name!r}, which is no objective of this study"
                        f"{did_you_mean(name, names)}; it has {', '.join(names)}"
                    )
            if not any(decision.weight(name) for name in names):
                raise ValueError(
                    f"decision{where}.weights are all 0: give at least one objective a weight "
                    "above 0"
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
            parameter = getattr(self.space, section)[name]
            if name in RANGES and (wrong := out_of_range(name, parameter)):
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
        return ("batch_size", "local_epochs", *dict.fromkeys((*own, *get_args(Extra))), *ALGORITHM)

    @property
    def server_settings(self) -> tuple[str, ...]:
        """What ``[space.server]`` may name; with an aggregation of the user's own, anything."""
        own = tuple(self.space.server) if self.server.own_aggregation else ()
        return tuple(dict.fromkeys((*SERVER_DEFAULTS, "aggregation", *own)))

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
