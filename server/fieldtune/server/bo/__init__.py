"""The grey-box Bayesian sampler, for any Optuna study.

It needs NumPy, SciPy, moocore and Optuna, and nothing else of fieldtune.
"""

from fieldtune.server.bo.known import Formulas, Known
from fieldtune.server.bo.sampler import GreySampler
from fieldtune.server.bo.transfer import Earlier

__all__ = ["Earlier", "Formulas", "GreySampler", "Known"]
