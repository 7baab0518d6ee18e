"""The rates from which a device type's latencies are predicted, each with its interval."""

from math import exp, hypot, log

from fieldtune.profiles.common.estimate import Span
from fieldtune.profiles.costmodel.kernel_costs import PLAIN_SHARE
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.profiles.device.value import ProfileValue

# Where a profile does not state them: int8 arithmetic relative to float32 (two to four times it on
# fitted boards), memory traffic relative to the rate of memcpy, and the time of a further thread on
# a core of 10 GFLOP/s, in us an op.
INT8_PER_FLOAT32 = Span(4.0, 1.0, 0.8)
TRAFFIC_PER_COPY = Span(3.0, 1.5, 0.55)
SYNC_US_AT_10_GFLOP_S = Span(3.0, 7.0, 18.0)


def higher_is_worse(entry: ProfileValue) -> Span:
    """Span of a profile value that increases costs (power, overhead)."""
    return Span(entry.low, entry.value, entry.high)


def higher_is_better(entry: ProfileValue) -> Span:
    """Span of a profile value that reduces costs (speed, bandwidth)."""
    return Span(entry.high, entry.value, entry.low)


def rate_spans(profile: DeviceProfile) -> dict[str, Span]:
    """The rates that make a device type's latencies: as stated, else as derived from others."""
    one, every = profile.float32_one_thread_gflop_s, profile.float32_all_cores_gflop_s
    int8 = _derived(every, INT8_PER_FLOAT32)
    if (small := profile.int8_one_thread_gop_s) is not None:
        # All cores gain what they gain with float32.
        int8 = _derived(small, Span(*(each / one.value for each in higher_is_better(every))))
    spans = {
        "float32_one_thread_gflop_s": higher_is_better(one),
        "float32_all_cores_gflop_s": higher_is_better(every),
        "int8_one_thread_gop_s": _derived(one, INT8_PER_FLOAT32),
        "int8_all_cores_gop_s": int8,
        "plain_share": PLAIN_SHARE,
        "memory_traffic_mb_s": _derived(profile.memory_copy_mb_s, TRAFFIC_PER_COPY),
        "sync_us": _slower(one, SYNC_US_AT_10_GFLOP_S),
    }
    for name in (
        "int8_one_thread_gop_s", "int8_all_cores_gop_s", "plain_share", "memory_traffic_mb_s",
    ):  # fmt: skip
        if (stated := getattr(profile, name)) is not None:
            spans[name] = higher_is_better(stated)
    if profile.sync_us is not None:
        spans["sync_us"] = higher_is_worse(profile.sync_us)
    return spans


def _derived(entry: ProfileValue, share: Span) -> Span:
    """A rate that is a share of another one."""
    up = hypot(log(entry.high / entry.value), log(share.best / share.value))
    down = hypot(log(entry.value / entry.low), log(share.value / share.worst))
    value = entry.value * share.value
    return Span(value * exp(up), value, value * exp(-down))


def _slower(rate: ProfileValue, us: Span) -> Span:
    return Span(*(each * 10.0 / rate.value for each in us))
