"""The optimizer behind ``ask`` and ``tell``: the only package that knows Optuna.

:class:`GreySampler` is a sampler for any Optuna study; :class:`OptunaTuner` is what fieldtune's own
loop asks and tells.
"""

from fieldtune.server.bo.known import Formulas, Known
from fieldtune.server.bo.sampler import GreySampler
from fieldtune.server.bo.transfer import Earlier
from fieldtune.server.tuner.optuna_tuner import OptunaTuner
from fieldtune.server.tuner.protocol import Tuner

__all__ = ["Earlier", "Formulas", "GreySampler", "Known", "OptunaTuner", "Tuner"]
