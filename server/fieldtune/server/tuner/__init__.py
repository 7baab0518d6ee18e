"""The optimizer behind ``ask`` and ``tell``: the only package that knows Optuna.

:class:`GreySampler` is a sampler for any Optuna study; :class:`OptunaTuner` is what fieldtune's own
loop asks and tells.
"""

from fieldtune.server.tuner.grey import GreySampler
from fieldtune.server.tuner.known import Formulas, Known
from fieldtune.server.tuner.prior import Earlier
from fieldtune.server.tuner.study import OptunaTuner, Tuner

__all__ = ["Earlier", "Formulas", "GreySampler", "Known", "OptunaTuner", "Tuner"]
