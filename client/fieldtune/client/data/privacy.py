"""What a device's owner allows the coordinator: the table ``[privacy]`` of ``data.toml``.

The coordinator chooses the model that a device trains, and a model can be made to return samples as
its "weights". So what leaves the device is bounded on the device itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.toml import from_toml
from fieldtune.profiles.common.validation import first_error

Vector = NDArray[np.float32]


class Privacy(BaseModel):
    """``[privacy]``.

    Args:
        clip_norm: the largest Euclidean norm of an update (trained weights minus those received);
            a larger one is scaled down to it.
        noise: standard deviation of the Gaussian noise that is added to each weight of an update,
            as a multiple of ``clip_norm``. For one request, ``clip_norm`` and ``noise`` are the
            Gaussian mechanism for the whole data of the device (Dwork and Roth 2014, appendix A;
            McMahan et al. 2018).
        min_samples: with fewer training or test samples, the device takes no part.
        metrics: metrics that may be computed, by name; ``package.module:function`` lets that module
            be imported. None: the built-in ones, and no module.
        confusion: whether the confusion matrix of a file to deploy may be reported, which tells
            how many samples of one class are taken for another.
        max_model_mib: the largest model.
        max_epochs: the most local epochs of a request.
        max_request_s: the longest that a request may take, in seconds.
        max_epsilon: the most differential privacy that all updates of this device together may
            spend; then it trains no more.
        delta: probability with which the bound by epsilon may not hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    noise: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    min_samples: int = Field(default=1, ge=1)
    metrics: tuple[str, ...] | None = None
    confusion: bool = True
    max_model_mib: float = Field(default=64.0, gt=0, allow_inf_nan=False)
    max_epochs: int | None = Field(default=None, ge=1)
    max_request_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    delta: float = Field(default=1e-5, gt=0, lt=1)

    @model_validator(mode="after")
    def _noise_has_a_scale(self) -> Privacy:
        if self.noise and self.clip_norm is None:
            raise ValueError("has noise without clip_norm, of which it is a multiple: set both")
        if self.max_epsilon is not None and not self.noise:
            raise ValueError("has max_epsilon without noise: epsilon would be infinite, set both")
        return self

    @classmethod
    def given(cls, entries: Sequence[str], base: Privacy) -> Privacy:
        """What a table and ``KEY=VALUE`` entries allow together; an entry overrides its key.

        Raises:
            UsageError: an entry is not valid.
        """
        values = base.model_dump(exclude_unset=True)
        for entry in entries:
            key, equals, value = entry.partition("=")
            if not equals:
                raise UsageError(f"--privacy {entry}: write KEY=VALUE, such as clip_norm=1.0")
            try:
                values[key.strip()] = from_toml(f"value = {value}")["value"]
            except ValueError:  # a text without quotation marks; several metrics
                values[key.strip()] = [each.strip() for each in value.split(",")]
        try:
            return cls.model_validate(values)
        except ValidationError as wrong:
            raise UsageError(f"--privacy: {first_error(wrong, cls)}") from None

    @property
    def tells_errors(self) -> bool:
        """Whether the error of a model on the device's own data may leave the device."""
        return self.metrics is None or "accuracy" in self.metrics

    def released(self, start: Vector, trained: Vector) -> Vector:
        """The trained weights as they leave the device: the update clipped, and with noise.

        The noise does not come from the request's seed, which the coordinator knows.
        """
        if self.clip_norm is None:
            return trained
        update: NDArray[Any] = trained.astype(np.float64) - start
        update *= min(1.0, self.clip_norm / max(float(np.linalg.norm(update)), 1e-300))
        if self.noise:
            random = np.random.default_rng(secrets.randbits(128))
            update += random.normal(0.0, self.noise * self.clip_norm, update.shape)
        return np.asarray(start + update, np.float32)
