import math
from dataclasses import astuple, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.profiles.costmodel.cost import MIB, Cost, Workload, call_ms, predict
from fieldtune.profiles.costmodel.roofline import DENSE_SHARE
from fieldtune.profiles.costmodel.tflite_work import OP_CLASSES, OpWork, Work
from fieldtune.profiles.device.load import load_profile, profile_names
from fieldtune.profiles.device.profile import DeviceProfile

# MobileNet v2 1.0, 224x224 (Sandler et al., CVPR 2018): 300 million multiply-adds, about 9 in 10
# of them in pointwise or full convolutions, 3.5 million weights, activations of some 50 MB.
MOBILENET_V2 = Work(
    {
        "conv": OpWork(36, 0.545e9, 55e6),
        "depthwise": OpWork(17, 0.050e9, 22e6),
        "elementwise": OpWork(10, 1.5e6, 8e6),
        "reduce": OpWork(1, 6e4, 2.6e5),
        "matmul": OpWork(1, 2.6e6, 5.2e6),
    }
)
# SSD-MobileNet v2 300x300: 0.8 billion multiply-adds, 16.9 million weights.
SSD_MOBILENET_V2 = Work(
    {
        "conv": OpWork(67, 1.46e9, 150e6),
        "depthwise": OpWork(17, 0.12e9, 40e6),
        "elementwise": OpWork(16, 6e6, 18e6),
        "other": OpWork(1, 4e6, 1.5e6),
    }
)


def workload(**changes):
    step = Work({"matmul": OpWork(10, 1.1e6, 1e5)})
    base = Workload(
        infer=Work({"conv": OpWork(5, 7e6, 1e4)}),
        step=step,
        evaluate=Work({}),
        steps_per_round=100,
        rounds=4,
        artefact_bytes=MIB,
        model_bytes=MIB,
        weight_bytes=MIB,
        train_arena_bytes=2 * MIB,
        infer_arena_bytes=MIB,
        data_bytes=3 * MIB,
    )
    return replace(base, **changes)


def test_a_class_bound_by_arithmetic_takes_its_operations_over_its_share_of_peak(make_profile):
    # 8e6 operations at 0.8 of 1 GFLOP/s: 10 ms; 5 ops of 1 us; 100 us of Python.
    assert DENSE_SHARE["conv"].value == 0.8
    estimate = call_ms(make_profile(), Work({"conv": OpWork(5, 8e6, 1e4)}))
    assert estimate.value == pytest.approx(10 + 0.005 + 0.1)


def test_a_class_bound_by_memory_takes_its_bytes_over_the_bandwidth(make_profile):
    # 1000 MB/s copied is 2000 MB/s moved, twice that from the cache: 8e6 bytes take 2 ms.
    work = Work({"conv": OpWork(5, 7e4, 8e6)})
    assert call_ms(make_profile(), work).value == pytest.approx(2 + 0.005 + 0.1)


def test_the_ends_are_what_each_figure_alone_would_change_squared_and_summed(make_profile):
    profile = make_profile(
        float32_one_thread_gflop_s={"low": 0.5, "high": 2},
        python_call_us={"low": 50, "high": 3100},
    )
    # Half the speed adds 10 ms, half the share of it 10 ms, slow Python 3 ms.
    estimate = call_ms(profile, Work({"conv": OpWork(0, 8e6, 0)}))
    assert estimate.value == pytest.approx(10.1)
    assert estimate.high == pytest.approx(10.1 + math.sqrt(10**2 + 10**2 + 3**2))


def test_an_interval_is_narrower_than_if_every_figure_were_off_at_once(make_profile):
    wide = {"low": 0.5, "high": 2}
    figures = {"float32_one_thread_gflop_s": wide, "loaded_w": {"low": 1, "high": 9}}
    cost = predict(make_profile(**figures), workload(steps_per_round=1e6))
    step, energy = cost.step_ms, cost.energy_j
    assert energy.high / energy.value < step.high / step.value * 3
    assert energy.low / energy.value > step.low / step.value / 3


def test_measured_rates_stand_in_the_place_of_shares(make_profile):
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


def test_all_cores_use_the_figure_of_all_cores(make_profile):
    work = Work({"conv": OpWork(0, 8e6, 0)})
    assert call_ms(make_profile(), work, threads="all").value == pytest.approx(10 / 4 + 0.1)


def test_heat_slows_arithmetic_dispatch_and_python_alike(make_profile):
    cool = make_profile()
    hot = make_profile(sustained_share={"value": 0.5, "low": 0.5, "high": 0.5})
    work = Work({"conv": OpWork(5, 7e6, 1e4)})
    assert call_ms(hot, work).value == pytest.approx(2 * call_ms(cool, work).value)


def test_a_round_is_computing_and_transferring_and_in_the_first_the_artefact(make_profile):
    cost = predict(make_profile(), workload())
    # 1.1e6 operations at 0.55 GFLOP/s are 2 ms, 10 ops 0.01 ms, Python 0.1 ms.
    assert cost.step_ms.value == pytest.approx(2.11)
    compute_s = 100 * 2.11e-3 + 0.1e-3  # and an evaluation of nothing but Python
    message = 1.03 * MIB + 4000
    transfer_s = message / 10e6 + message / 1e6 + 4 * 0.025
    assert cost.round_s.value == pytest.approx(compute_s + transfer_s + 1.03 * MIB / 10e6)


def test_the_cheapest_round_is_a_later_one_without_the_artefact(make_profile):
    with_artefact = predict(make_profile(), workload(artefact_bytes=100 * MIB))
    without = predict(make_profile(), workload(artefact_bytes=0))
    assert with_artefact.round_s.low == without.round_s.low
    assert with_artefact.round_s.value > without.round_s.value


def test_memory_is_the_process_and_every_copy(make_profile):
    cost = predict(make_profile(), workload())
    # 100 MiB of process, 2 of artefact, 2 of arena, 6 of weights, 3 of data.
    assert cost.memory_mib.value == pytest.approx(113)
    # 40 MiB of process, 2 of model, 1 of arena.
    assert cost.inference_memory_mib.value == pytest.approx(43)


def test_a_profile_without_a_measured_process_takes_what_one_usually_needs(make_profile):
    usual = make_profile().model_copy(update={"process_mib": None, "inference_process_mib": None})
    cost = predict(usual, workload())
    assert cost.memory_mib.value == pytest.approx(118)
    assert cost.inference_memory_mib.value == pytest.approx(48)


def test_storage_is_the_files_that_are_kept(make_profile):
    cost = predict(make_profile(), workload())
    assert (cost.storage_mib.value, cost.storage_mib.high) == (6, 7)


def test_bytes_of_a_trial_are_its_messages_and_one_artefact(make_profile):
    cost = predict(make_profile(), workload())
    assert cost.sent_bytes.value == pytest.approx(4 * (1.03 * MIB + 4000))
    assert cost.received_bytes.value == pytest.approx(cost.sent_bytes.value + 1.03 * MIB)


def test_a_device_that_rarely_takes_part_rarely_downloads_the_artefact(make_profile):
    cost = predict(make_profile(), workload(rounds=0.25))
    assert cost.received_bytes.value == pytest.approx(0.25 * (2 * 1.03 * MIB + 4000))


def test_energy_is_power_times_time_of_computing_and_of_transferring(make_profile):
    cost = predict(make_profile(), workload())
    artefact_s = 1.03 * MIB / 10e6
    compute_s = 100 * 2.11e-3 + 0.1e-3
    transfer_s = cost.round_s.value - compute_s - artefact_s
    assert cost.energy_j.value == pytest.approx(
        4 * (3 * compute_s + 2 * transfer_s) + 2 * artefact_s
    )


def test_evaluations_are_part_of_a_round(make_profile):
    evaluate = Work({"matmul": OpWork(0, 0.55e6, 0)})  # 1 ms, and Python
    once = predict(make_profile(), workload(evaluate=evaluate))
    thrice = predict(make_profile(), workload(evaluate=evaluate, evaluations_per_round=3))
    assert thrice.round_s.value - once.round_s.value == pytest.approx(2 * 1.1e-3)


PUBLISHED = [
    ("raspberry-pi-3b-plus", "all", MOBILENET_V2, 79),  # XNNPACK README, 2020
    ("raspberry-pi-4b", "all", MOBILENET_V2, 44),
    ("android-mid", "one", MOBILENET_V2, 49),
    ("android-mid", "one", MOBILENET_V2, 53),
    ("android-mid", "one", MOBILENET_V2, 55),
    ("android-mid", "all", MOBILENET_V2, 26),
    ("android-mid", "all", MOBILENET_V2, 18),
    ("android-mid", "all", MOBILENET_V2, 28),
    ("coral-dev-board", "one", MOBILENET_V2, 150),  # freedomtan/edge_tpu_python_scripts
    ("raspberry-pi-3b-plus", "all", SSD_MOBILENET_V2, 379.6),  # aallan, benchmarking-ml
    ("raspberry-pi-4b", "all", SSD_MOBILENET_V2, 112.6),
    ("raspberry-pi-5", "all", SSD_MOBILENET_V2, 23.5),
]


def test_nine_in_ten_published_latencies_lie_in_the_interval():
    inside = [
        estimate.low <= ms <= estimate.high
        for name, threads, work, ms in PUBLISHED
        for estimate in [call_ms(load_profile(name), work, threads=threads)]
    ]
    assert sum(inside) >= 0.85 * len(inside)


@pytest.mark.parametrize(
    ("name", "measured_ms"), [("raspberry-pi-3b-plus", 79), ("raspberry-pi-4b", 44)]
)
def test_published_latencies_of_mobilenet_v2_are_met_within_a_third(name, measured_ms):
    estimate = call_ms(load_profile(name), MOBILENET_V2, threads="all")
    assert estimate.value == pytest.approx(measured_ms, rel=1 / 3)


def test_a_newer_board_is_predicted_faster():
    boards = ("raspberry-pi-zero-2w", "raspberry-pi-3b-plus", "raspberry-pi-4b", "raspberry-pi-5")
    times = [call_ms(load_profile(name), MOBILENET_V2).value for name in boards]
    assert times == sorted(times, reverse=True)


amounts = st.floats(0, 1e12)
op_works = st.builds(OpWork, st.integers(0, 100_000), amounts, amounts)
works = st.dictionaries(st.sampled_from(OP_CLASSES), op_works).map(Work)
sizes = st.integers(0, 2**40)
workloads = st.builds(
    Workload, works, works, works, amounts, st.floats(0, 1e6), sizes, sizes, sizes, sizes, sizes,
    sizes, st.floats(0, 1e6),
)  # fmt: skip
names = st.sampled_from(profile_names())
threads_choices = st.sampled_from(["one", "all"])


@settings(deadline=None)
@given(names, workloads, threads_choices)
def test_every_estimate_is_in_order_and_not_negative(name, load, threads):
    cost = predict(load_profile(name), load, threads=threads)
    for field in fields(Cost):
        value, low, high, _ = astuple(getattr(cost, field.name))
        assert 0 <= low <= value <= high, field.name


@settings(deadline=None)
@given(names, works, st.sampled_from(OP_CLASSES), st.integers(0, 1000), amounts, amounts)
def test_more_work_is_never_predicted_to_take_less_time(name, work, op_class, count, flops, moved):
    more = dict(work.classes)
    more[op_class] = more.get(op_class, OpWork(0, 0, 0)) + OpWork(count, flops, moved)
    before, after = (call_ms(load_profile(name), candidate) for candidate in (work, Work(more)))
    assert after.value >= before.value
    assert after.low >= before.low
    assert after.high >= before.high


GROWING = [
    field.name for field in fields(Workload) if field.name not in ("infer", "step", "evaluate")
]


@settings(deadline=None)
@given(names, workloads, st.sampled_from(GROWING), st.integers(0, 2**30))
def test_asking_for_more_never_costs_less(name, load, field, extra):
    profile = load_profile(name)
    more = replace(load, **{field: getattr(load, field) + extra})
    before, after = predict(profile, load), predict(profile, more)
    for quantity in fields(Cost):
        pairs = zip(
            astuple(getattr(before, quantity.name))[:3],
            astuple(getattr(after, quantity.name))[:3],
            strict=True,
        )
        assert all(second >= first for first, second in pairs), quantity.name
