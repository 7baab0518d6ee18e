import json
import math

import pytest

from fieldtune.profiles.common.estimate import ratio
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.rate_spans import rate_spans
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import DeviceProfile

CALL = 0.1  # ms in Python, of the profile of round numbers


def conv(flops, moved=0.0, **work):
    return Work({"conv": OpWork(0, flops, moved, **work)})


def only(work, **options):
    """Milliseconds of the work on a device of 1 GFLOP/s, without the call."""
    return call_ms(options.pop("profile"), work, **options).value - CALL


@pytest.mark.parametrize(
    ("name", "op", "ms"),
    [
        ("conv", OpWork(0, 8e6, 0), 8),
        # In tiles of 6 x 8: as many multiply-adds as steps say, not as the shapes do.
        ("conv.conv_2d", OpWork(0, 8e6, 0, neon=2e5), 19.2),
        ("conv", OpWork(5, 8e6, 1e6), 8.09 + 0.005),
        ("depthwise", OpWork(0, 1e6, 0), 5.5),
        ("elementwise.binary", OpWork(0, 1e6, 1e6), 3.2),
        ("conv.conv_2d.int8", OpWork(0, 8e6, 0), 4),  # at 2 GOP/s
        ("depthwise.depthwise_conv_2d.int8", OpWork(0, 1e6, 0), 8),  # at 2 GOP/s as well
        ("conv.conv_2d.dynamic", OpWork(0, 8e6, 1e6), 5),
        ("conv.conv_2d.plain", OpWork(0, 1e6, 1e6, runs=1e9), 5.1 / 0.65),
        # Gathering the input of 1000 pixels is as much as 2400 operations each.
        ("conv.conv_2d.plain", OpWork(0, 0, 0, starts=1e3), 2.4 / 0.65),
        ("conv.conv_2d.pointwise.plain", OpWork(0, 0, 0, starts=1e3), 0),
        ("conv.conv_2d.int8.plain", OpWork(1, 2e6, 0), 1 / 0.65 + 0.0024),
        # Beyond the L2 cache: 1000 MB/s copied are 1500 MB/s of traffic.
        ("conv", OpWork(0, 0, 0, beyond_l2_bytes=3e6), 2),
        ("call.feed", OpWork(1, 0, 1e9), 0),
    ],
)
def test_a_kernel_takes_its_operations_bytes_and_dispatch(make_profile, name, op, ms):
    assert only(Work({name: op}), profile=make_profile()) == pytest.approx(ms)


def test_threads_share_arithmetic_but_not_the_memory(make_profile):
    profile = make_profile(sync_us={"value": 10, "low": 10, "high": 10},
                           float32_all_cores_gflop_s={"value": 2, "low": 2, "high": 2})  # fmt: skip
    work = conv(8e6, beyond_l2_bytes=3e6)

    def both(arithmetic, memory):
        """Each is spent in part during the other."""
        return (arithmetic**1.5 + memory**1.5) ** (1 / 1.5)

    assert only(work, profile=profile, threads="all") == pytest.approx(both(8 / 2, 2))
    # Four threads are twice as fast as one, and two 12/7 times: they hinder each other less.
    assert only(work, profile=profile, threads=2) == pytest.approx(both(8 / (12 / 7), 2))
    # Half of the time of four threads they wait: in a depthwise convolution 0.7 times as long
    # again, in a product of large weights 1.5 times.
    depthwise = Work({"depthwise": OpWork(0, 1e6, 0)})
    assert only(depthwise, profile=profile, threads=4) == pytest.approx(5.5 / 2 * (1 + 0.7 / 2))
    heavy = conv(0, neon=1e5, heavy=1e5)
    assert only(heavy, profile=profile, threads=4) == pytest.approx(9.6 / 2 * (1 + 1.5 / 2))
    assert only(heavy, profile=profile, threads=1) == pytest.approx(9.6)
    gathered = Work({"conv.conv_2d.plain": OpWork(0, 0, 0, starts=1e3)})
    one, four = (only(gathered, profile=profile, threads=n) for n in (1, 4))
    assert one == pytest.approx(four)
    ops = Work({"conv": OpWork(5, 0, 0)})
    # Each op waits for each further thread, but for those that one thread does alone.
    assert only(ops, profile=profile, threads=4) == pytest.approx(5 * (0.001 + 3 * 0.01))
    ops = Work({"conv": OpWork(5, 0, 0, single=3.5)})
    assert only(ops, profile=profile, threads=4) == pytest.approx(5 * 0.001 + 1.5 * 3 * 0.01)


def test_an_interval_is_the_root_of_the_squares_of_what_each_figure_changes(make_profile):
    profile = make_profile(
        float32_one_thread_gflop_s={"low": 0.5, "high": 2},
        python_call_us={"low": 50, "high": 3100},
    )
    estimate = call_ms(profile, conv(8e6))
    assert estimate.value == pytest.approx(8.1)
    own = 8 * (math.exp(0.05) - 1)
    # Half the speed adds 8 ms, slow Python 3 ms, and the model's own error is 5 %.
    assert estimate.high == pytest.approx(8.1 + math.sqrt(8**2 + 3**2 + own**2))


def test_the_rate_outside_xnnpack_is_as_unsure_as_its_share_says(make_profile):
    share = {"value": 0.5, "low": 0.45, "high": 0.55}
    profile = make_profile(float32_one_thread_gflop_s={"low": 0.1, "high": 10}, plain_share=share)
    found = call_ms(profile, Work({"conv.conv_2d.plain": OpWork(0, 8e8, 0)}))
    assert found.value == pytest.approx(1600, rel=0.01)
    assert found.high / found.low < 1.6


def test_two_models_on_a_device_are_compared_better_than_either_is_known(make_profile):
    profile = make_profile(float32_one_thread_gflop_s={"low": 0.5, "high": 2})
    one, other = (call_ms(profile, conv(flops)) for flops in (80e6, 120e6))
    found = ratio(one, other)
    assert found.high < 1 < one.high / other.low
    assert found.high / found.low < 1.4 < one.high / one.low


def test_measured_rates_stand_in_the_place_of_the_table(make_profile):
    rates = {"op_us": 2.0, "mflop_us": 50.0, "mb_us": 10.0, "mrun_us": 1.0, "mwide_us": 2.0,
             "mouter_us": 3.0, "mstart_us": 7.0, "near_mb_us": 5.0, "far_mb_us": 4.0,
             "remote_mb_us": 6.0, "low": 0.5, "high": 2.0,
             "basis": "measured", "source": "a bench"}  # fmt: skip
    profile = DeviceProfile.model_validate(
        make_profile().model_dump() | {"classes": {"conv": rates}}
    )
    work = Work({"conv.conv_2d": OpWork(5, 8e6, 1e6, 2e6, 3e6, 4e6, 9e6, 8e6, 5e6, 1e6)})
    spent = (5 * 2 + 8 * 50 + 10 + 2 + 3 * 2 + 4 * 3 + 9 * 7 + 8 * 5 + 5 * 4 + 6) / 1e3
    estimate = call_ms(profile, work)
    assert estimate.value == pytest.approx(spent + 0.1)
    assert estimate.high == pytest.approx(2 * spent + 0.1)
    other = Work({"matmul": OpWork(1, 0.55e6, 0)})
    assert call_ms(profile, other) == call_ms(make_profile(), other)


def test_heat_slows_a_lasting_load_and_not_an_inference(make_profile):
    hot = make_profile(sustained_share={"value": 0.5, "low": 0.5, "high": 0.5})
    work = Work({"conv": OpWork(5, 7e6, 1e4)})
    assert call_ms(hot, work) == call_ms(make_profile(), work)
    lasting = call_ms(hot, work, lasting=True)
    assert lasting.value == pytest.approx(2 * call_ms(hot, work).value)


def test_rates_that_a_profile_does_not_state_are_derived_and_unsure(make_profile):
    spans = rate_spans(make_profile().model_copy(update={"int8_one_thread_gop_s": None}))
    assert spans["int8_one_thread_gop_s"].value == 1
    traffic = spans["memory_traffic_mb_s"]
    assert (traffic.value, traffic.best, traffic.worst) == pytest.approx((1500, 3000, 550))
    assert spans["sync_us"].value == 70


def published(data):
    """Work of rebuilt models, and latencies from published tables (see the file)."""
    kept = json.loads((data / "published.json").read_text())
    works = {
        name: Work({kernel: OpWork(int(n[0]), *n[1:]) for kernel, n in kernels.items()})
        for name, kernels in kept["works"].items()
    }
    return [(*row[:2], works[row[2]], row[3], row[4]) for row in kept["rows"]]


def test_published_latencies_are_predicted_and_held_by_the_intervals(data):
    ratios, inside, widths = {}, [], {"one": [], "more": []}
    for profile, source, work, threads, ms in published(data):
        found = call_ms(load_profile(profile), work, threads=threads)
        ratios.setdefault((profile, "one" if threads == 1 else "more"), []).append(found.value / ms)
        inside.append(found.low <= ms <= found.high)
        widths["one" if threads == 1 else "more"].append(found.high / found.low)
        assert source
    for (profile, threads), found in ratios.items():
        within = 0.15 if threads == "one" else 0.25
        assert 0.9 <= sorted(found)[len(found) // 2] <= 1.1, (profile, threads)
        assert sum(abs(each - 1) <= within for each in found) >= 0.8 * len(found), profile
    assert sum(inside) >= 0.85 * len(inside)
    assert sorted(widths["one"])[len(widths["one"]) // 2] <= 1.5
    assert sorted(widths["more"])[len(widths["more"]) // 2] <= 1.9


def test_int8_on_a_profile_that_does_not_state_it_may_be_four_times_as_fast():
    board = load_profile("raspberry-pi-4b")
    unstated = board.model_copy(
        update={"int8_one_thread_gop_s": None, "int8_all_cores_gop_s": None}
    )
    work = Work({"conv.conv_2d.int8": OpWork(1, 1e9, 0.0)})
    for threads in ("one", "all"):
        true, found = (call_ms(each, work, threads=threads) for each in (board, unstated))
        assert found.low < true.value < found.value
        whole = call_ms(unstated, Work({"conv.conv_2d": OpWork(1, 1e9, 0.0)}), threads=threads)
        assert found.value == pytest.approx(whole.value, rel=0.01)


def test_all_cores_gain_with_int8_what_they_gain_with_float32_where_it_is_not_stated():
    board = load_profile("raspberry-pi-4b").model_copy(update={"int8_all_cores_gop_s": None})
    spans = rate_spans(board)
    gain = board.float32_all_cores_gflop_s.value / board.float32_one_thread_gflop_s.value
    assert spans["int8_all_cores_gop_s"].value == pytest.approx(
        gain * spans["int8_one_thread_gop_s"].value
    )
