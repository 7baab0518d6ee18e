from dataclasses import astuple, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.profiles.costmodel.cost import MIB, Cost, Workload, computing_w, predict
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_work import OP_CLASSES, OpWork, Work
from fieldtune.profiles.device.load import load_profile, profile_names

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


def test_a_round_is_computing_and_transferring_and_in_the_first_the_artefact(make_profile):
    cost = predict(make_profile(), workload())
    # 1.1e6 operations and 1e5 bytes (0.09 each) at 1 GFLOP/s, 10 ops 0.01 ms, Python 0.1 ms.
    assert cost.step_ms.value == pytest.approx(1.219)
    compute_s = 100 * 1.219e-3 + 0.1e-3  # and an evaluation of nothing but Python
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


def test_power_grows_evenly_from_one_core_to_all(make_profile):
    some = [computing_w(make_profile(one_core_w={"value": 1.5, "low": 1.5, "high": 1.5}), n)
            for n in (1, 2, 4)]  # fmt: skip
    assert [each.value for each in some] == pytest.approx([1.5, 2.0, 3.0])
    # A profile from before one_core_w, and one that says nothing.
    assert computing_w(make_profile().model_copy(update={"one_core_w": None}), 1).value == 3
    assert computing_w(make_profile().model_copy(update={"loaded_w": None}), 1) is None


def test_an_inference_takes_the_power_of_its_threads(make_profile):
    cost = predict(make_profile(), workload())
    assert cost.inference_mj.value == pytest.approx(3 * cost.inference_ms.value)


def test_energy_is_power_times_time_of_computing_and_of_transferring(make_profile):
    cost = predict(make_profile(), workload())
    artefact_s = 1.03 * MIB / 10e6
    compute_s = 100 * 1.219e-3 + 0.1e-3
    transfer_s = cost.round_s.value - compute_s - artefact_s - 4 * 0.025  # but for round trips
    assert cost.energy_j.value == pytest.approx(
        4 * (3 * compute_s + 2 * transfer_s) + 2 * artefact_s
    )


def test_evaluations_are_part_of_a_round(make_profile):
    evaluate = Work({"matmul": OpWork(0, 1e6, 0)})  # 1 ms, and Python
    once = predict(make_profile(), workload(evaluate=evaluate))
    thrice = predict(make_profile(), workload(evaluate=evaluate, evaluations_per_round=3))
    assert thrice.round_s.value - once.round_s.value == pytest.approx(2 * 1.1e-3)


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
        if (found := getattr(cost, field.name)) is not None:
            assert 0 <= found.low <= found.value <= found.high, field.name


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
