"""Measuring a message on a host: recorded trees stand for boards, moments for the clock."""

import time

import pytest

from fieldtune.client.training.measurement import Latency, Measurement, latency
from fieldtune.client.training.meter import HostMeter
from fieldtune.profiles.host.probe import Host

STATUS = "Name: x\nVmHWM:\t  {peak} kB\nVmSwap:\t  {swap} kB\n"
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def board(root, *, peak=51200, swap=0, pages=(0, 0), throttled=None, temperature=None, model=None):
    files = {
        "proc/self/status": STATUS.format(peak=peak, swap=swap),
        "proc/self/clear_refs": "",
        "proc/vmstat": f"nr_free_pages 7\npswpin {pages[0]}\npswpout {pages[1]}\n",
        THROTTLED: throttled,
        "sys/class/thermal/thermal_zone0/temp": temperature,
        "proc/device-tree/model": model,
    }
    if model:
        files["usr/bin/vcgencmd"] = ""
    for name, text in files.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def measured(root, change=lambda: None, *, moments=(1.0, 3.0), **counts) -> Measurement:
    clock = iter(moments)
    meter = HostMeter(root, lambda: next(clock), power_w=lambda host: 6.0)
    meter.start()
    change()
    return meter.stop(None, **counts)


def test_wall_time_and_the_peak_since_the_start_are_measured(tmp_path):
    found = measured(board(tmp_path))
    assert found.wall_s == 2.0
    assert found.peak_memory_mib == 50.0
    assert (tmp_path / "proc/self/clear_refs").read_text() == "5"
    assert not found.simulated


def test_evaluation_tells_the_time_of_a_sample_and_training_does_not(tmp_path):
    assert measured(board(tmp_path), samples=10).inference_ms == 200.0
    assert measured(board(tmp_path), train_steps=4, samples=10).inference_ms is None


def test_a_host_whose_high_water_mark_cannot_be_reset_tells_no_peak(tmp_path):
    found = measured(tmp_path / "nothing-here")
    assert found == Measurement(wall_s=2.0, cpu_s=found.cpu_s)
    assert found.is_sound


def test_energy_is_power_times_time_where_the_board_tells_its_power(tmp_path):
    assert measured(board(tmp_path, model="Raspberry Pi 5 Model B\0")).energy_j == 12.0


def test_energy_is_not_measured_elsewhere(tmp_path):
    assert measured(board(tmp_path, model="Raspberry Pi 4 Model B\0")).energy_j is None


def test_a_board_that_will_not_tell_its_power_this_time_has_no_energy(tmp_path):
    def silent(host: Host) -> None:
        return None

    meter = HostMeter(board(tmp_path, model="Raspberry Pi 5 Model B\0"), power_w=silent)
    meter.start()
    assert meter.stop(None).energy_j is None


def test_temperature_is_taken_before_and_after(tmp_path):
    root = board(tmp_path, temperature="48000\n")
    found = measured(root, lambda: board(tmp_path, temperature="61000\n"))
    assert found.temperature_before_c == pytest.approx(48.0)
    assert found.temperature_after_c == pytest.approx(61.0)


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        ("0", "0", False),
        ("0", "4", True),  # throttled at the end
        ("4", "0", True),  # at the start
        ("0", "40000", True),  # in between: a bit that says what has happened is new
        ("40000", "40000", False),  # long ago
        (None, None, None),
    ],
)
def test_a_throttled_measurement_is_marked(tmp_path, before, after, throttled):
    root = board(tmp_path, throttled=before)
    found = measured(root, lambda: board(tmp_path, throttled=after))
    assert found.throttled is throttled
    assert found.is_sound is not bool(throttled)


@pytest.mark.parametrize(
    ("after", "swapping"),
    [({}, False), ({"swap": 300}, True), ({"pages": (0, 5)}, True), ({"pages": (7, 0)}, True)],
)
def test_a_swapping_measurement_is_marked(tmp_path, after, swapping):
    found = measured(board(tmp_path), lambda: board(tmp_path, **after))
    assert found.swapping is swapping
    assert found.is_sound is not swapping


def test_latency_leaves_the_first_calls_out():
    ends = [0.0, 9.0, 18.0, 18.001, 18.003]
    assert latency(ends) == Latency(pytest.approx(1.0), pytest.approx(2.0), pytest.approx(2.0), 2)


def test_percentiles_are_times_that_were_measured():
    ends = [0.0]
    for call in range(1, 101):
        ends.append(ends[-1] + call / 1e3)
    found = latency(ends, warm_up=0)
    assert (found.median_ms, found.p90_ms, found.p99_ms) == pytest.approx((50, 90, 99))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_without_calls_after_warm_up_there_is_no_latency(count):
    assert latency([float(moment) for moment in range(count + 1)]) is None


def test_marks_between_start_and_stop_become_percentiles(tmp_path):
    clock = iter([0.0, 1.0, 2.0, 2.5, 3.5, 4.0])
    meter = HostMeter(board(tmp_path), lambda: next(clock))
    meter.start()
    for _ in range(4):
        meter.mark()
    assert meter.stop(None).latency == Latency(500.0, 1000.0, 1000.0, 2)


def test_this_host_is_measured_in_its_own_terms():
    meter = HostMeter()
    meter.start()
    held = bytearray(32 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(0)
    found = meter.stop(None)
    assert found.wall_s > 0
    assert found.peak_memory_mib is None or found.peak_memory_mib > 32
