"""What models see of a configuration beside its parameters: the costs that formulas give."""

import math

import numpy as np
from optuna.distributions import FloatDistribution

from fieldtune.server.bo.candidates import Candidates, FormulaEvaluator, fill_pool
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.features import Features
from fieldtune.server.bo.known import Known

ENCODING = Encoding.of({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})


def pool(*formulas: object) -> Candidates:
    """Configurations of a space with these objectives: a number, a function of x, or unknown."""

    def known(params):
        values = {
            index: formula(params["x"]) if callable(formula) else formula
            for index, formula in enumerate(formulas)
            if formula is not None
        }
        return Known(objectives=values)

    return fill_pool(
        ENCODING, FormulaEvaluator(ENCODING, known, [1.0] * len(formulas)), seed=0
    ).candidates


def test_only_formulas_that_prepare_many_are_asked_to():
    class Formulas:
        """Has a method of its own whose name is a common one."""

        def prepare(self): ...

        def __call__(self, values):
            return Known({0: values["x"]})

    units = np.array([[0.25, 0.0], [0.5, 1.0]])
    found = FormulaEvaluator(ENCODING, Formulas(), [1.0]).of(units)
    assert found.objectives[:, 0].tolist() == [0.25, 0.5]


def test_a_positive_cost_is_a_column_by_its_logarithm():
    candidates = pool(None, lambda x: 10.0 ** (3 * x))
    features = Features(ENCODING, candidates)
    columns = features.of(candidates)
    assert features.names == ["x", "y", ":cost 1"]
    assert features.groups == [0, 1, 2]
    # The logarithm is linear in x, so the column is as well.
    correlation = np.corrcoef(columns[:, 0], columns[:, 2])[0, 1]
    assert math.isclose(correlation, 1.0, abs_tol=1e-9)
    assert math.isclose(columns[:, 2].mean(), 0.0, abs_tol=1e-9)


def test_a_cost_that_may_be_negative_is_a_column_as_it_is():
    candidates = pool(lambda x: -x)
    columns = Features(ENCODING, candidates).of(candidates)
    assert math.isclose(np.corrcoef(columns[:, 0], columns[:, 2])[0, 1], -1.0, abs_tol=1e-9)


def test_what_is_learned_or_the_same_for_all_is_no_column():
    candidates = pool(None, 3.0)
    features = Features(ENCODING, candidates)
    assert features.names == ["x", "y"]
    np.testing.assert_array_equal(features.of(candidates), ENCODING.features(candidates.units))


def test_a_configuration_outside_of_the_pool_is_put_on_the_same_scale():
    features = Features(ENCODING, pool(lambda x: 1.0 + x))
    at = Candidates(
        np.array([[0.2, 0.5], [0.8, 0.5]]),
        np.array([[1.2], [0.0]]),
        np.empty((2, 0)),
        np.ones(2, dtype=bool),
    )
    columns = features.of(at)
    assert np.isfinite(columns).all()  # also of a cost of 0
    assert columns[1, 2] < columns[0, 2]


def test_a_cost_that_is_infinite_somewhere_stays_a_column():
    """As of a configuration that fits no device; there it is as large as the largest finite one."""
    features = Features(ENCODING, pool(None, lambda x: 1.0 + x if x < 0.7 else math.inf))
    assert features.names == ["x", "y", ":cost 1"]
    at = pool(None, lambda x: math.nan if x > 0.5 else 1.0)  # what is no number is infinite
    column = features.of(at)[:, 2]
    assert np.isfinite(column).all()
    assert column.max() > column.min()
