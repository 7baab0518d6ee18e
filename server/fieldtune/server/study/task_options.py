"""``[task]``: data, model and metric."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from fieldtune.client.contract.messages import METRICS, RECONSTRUCTION
from fieldtune.profiles.common.errors import did_you_mean
from fieldtune.server.compiler.manifest import MODELS, Loss, Optimizer, Variant
from fieldtune.server.study.partition import PartitionSection
from fieldtune.server.study.section import Section


class TaskSection(Section):
    """``[task]``: data, model and metric."""

    data: str | None = None
    """The dataset for simulated clients; real devices have their own data."""
    model: str | tuple[str, ...]
    """A model's name, or several: which one is then a parameter of the search."""
    labels: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(), min_length=2
    )
    """Names of the classes of simulated clients' data, in the order of their numbers; empty: those
    that the data set has. Devices have theirs in ``data.toml``."""
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
    """Conversions to write and measure of what is recommended and of the defaults."""
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

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [each for each in labels if labels.count(each) > 1]:
            raise ValueError(f"names {twice[0]!r} twice: give each class a name of its own")
        return labels

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
