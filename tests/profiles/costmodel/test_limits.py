import pytest

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.profiles.costmodel.limits import DeviceLimits, default_limits, slack


def cost(**values):
    names = Cost.__dataclass_fields__
    return Cost(**{name: Estimate(values.get(name, 1.0), 0.0, 1e9) for name in names})


def test_by_default_a_device_is_limited_to_its_free_memory_and_storage(make_profile):
    assert default_limits(make_profile()) == DeviceLimits(memory_mib=500, storage_mib=4000)


def test_slack_is_the_share_of_the_cap_that_is_over():
    limits = DeviceLimits(memory_mib=100, round_s=10)
    found = slack(cost(memory_mib=75, round_s=15), limits)
    assert found == {"memory_mib": pytest.approx(-0.25), "round_s": pytest.approx(0.5)}


def test_exactly_the_cap_fits():
    assert slack(cost(energy_j=7.0), DeviceLimits(energy_j=7.0)) == {"energy_j": 0.0}


def test_limits_that_are_not_set_are_not_judged():
    assert slack(cost(), DeviceLimits()) == {}


def test_every_limit_is_a_quantity_of_a_cost():
    assert set(DeviceLimits.__dataclass_fields__) <= set(Cost.__dataclass_fields__)


@pytest.mark.parametrize("cap", [0, -1, float("nan"), float("inf")])
def test_a_cap_must_be_a_number_above_zero(cap):
    with pytest.raises(UsageError, match=f"limit round_s = {cap} must be a finite number above 0"):
        DeviceLimits(round_s=cap)
