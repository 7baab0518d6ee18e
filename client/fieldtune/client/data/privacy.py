"""What a device's owner allows the coordinator: the table ``[privacy]`` of ``data.toml``.

The coordinator chooses the model that a device trains, and a model can be made to return samples as
its "weights". So what leaves the device is bounded on the device itself.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

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
        max_model_mib: the largest model.
        max_epochs: the most local epochs of a request.
        max_request_s: the longest that a request may take, in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    noise: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    min_samples: int = Field(default=1, ge=1)
    metrics: tuple[str, ...] | None = None
    max_model_mib: float = Field(default=64.0, gt=0, allow_inf_nan=False)
    max_epochs: int | None = Field(default=None, ge=1)
    max_request_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _noise_has_a_scale(self) -> Privacy:
        if self.noise and self.clip_norm is None:
            raise ValueError("has noise without clip_norm, of which it is a multiple: set both")
        return self

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
