"""The optimizer behind ``ask`` and ``tell``: only it and :mod:`fieldtune.server.bo` know Optuna."""

from fieldtune.server.tuner.optuna_tuner import OptunaTuner
from fieldtune.server.tuner.protocol import Tuner

__all__ = ["OptunaTuner", "Tuner"]
