"""From readings to a profile, with readings of a machine whose rates are known."""

import tomllib
from dataclasses import replace
from datetime import date
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fieldtune.profiles import cli
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.toml import to_toml
from fieldtune.profiles.costmodel.cost import missing_values
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import value_fields
from fieldtune.profiles.host.probe import Host
from fieldtune.profiles.measure import microbench
from fieldtune.profiles.measure import profile_host as module
from fieldtune.profiles.measure.fit_rates import Fit, fit, left_out_errors, nonnegative
from fieldtune.profiles.measure.microbench import Readings, Timing, fastest_us, run
from fieldtune.profiles.measure.profile_host import measure
from fieldtune.profiles.measure.sample_ops import samples
from fieldtune.profiles.measure.tflite_graphs import call_overhead, chain, graph, independent_adds

pytestmark = pytest.mark.integration

BASE_US, OP_US, BYTE_US, FEED_US = 0.5, 0.1, 1e-5, 1.0


def known_us(work: Work) -> float:
    """A machine on which every op takes a tenth of a microsecond and 10 ns a kilobyte."""
    return BASE_US + OP_US * work.ops + BYTE_US * work.moved_bytes


def timing(model: bytes) -> Timing:
    work = read_work(model)["main"]
    return Timing(work, known_us(work))


def call(model: bytes) -> Timing:
    work = read_work(model)["main"]
    tensors = work.classes["call.feed"].count + work.classes["call.fetch"].count
    return Timing(work, 2.0 + FEED_US * tensors)


@lru_cache(maxsize=1)
def readings() -> Readings:
    drawn = samples()
    chains = [chain(op, 16, count) for op in ("ADD", "ADD_N") for count in (1, 2, 4, 16, 48)]
    return Readings(
        kernels=tuple(timing(model) for model in (*chains, *(graph([s] * 2) for s in drawn))),
        parts=tuple(timing(chain("ADD", 16, count, "ADD_N")) for count in (3, 8)),
        far=(timing(independent_adds(60_000, 8)),),
        mixes=(timing(graph(drawn[:10])), timing(graph(drawn[10:20]))),
        calls=tuple(call(chain("ADD", size, 1)) for size in (1, 100, 1_000))
        + tuple(call(independent_adds(4, count)) for count in (2, 4)),
        runtime="ai_edge_litert",
        speed_ratio=0.99,
    )


@lru_cache(maxsize=1)
def fitted() -> Fit:
    return fit(readings())


@pytest.fixture
def known_machine(monkeypatch):
    """Nothing of this machine is measured, and the same readings are fitted once for all tests."""

    def known(given: Readings) -> Fit:
        assert given is readings()
        return fitted()

    monkeypatch.setattr(module, "fit", known)
    parts = [np.full(6, 0.3), np.zeros(6), np.zeros(6), np.zeros(6)]
    monkeypatch.setattr(module, "left_out_errors", lambda given: parts)
    monkeypatch.setattr(module, "speedup", lambda threads: 1.9)
    monkeypatch.setattr(module.here, "copy_mb_s", lambda: (5200.0, 5000.0, 4500.0))
    monkeypatch.setattr(
        module.here, "process_mib", lambda package, client: 90.0 if client else 40.0
    )


def a_profile(tmp_path, host, monkeypatch, **more):
    monkeypatch.setattr(module, "probe", lambda root: host)
    measured = measure(
        today=date(2026, 1, 2), benchmark=lambda seconds, progress: readings(), **more
    )
    path = tmp_path / "node.toml"
    path.write_text(to_toml(measured.tables))
    return measured, path


PC = Host(None, 2, None, 4096.0, 3000.0, None, None, None, None)
PI = Host("Raspberry Pi 5 Model B Rev 1.0", 4, 2400.0, 4096.0, 3500.0, 50.0, (), (), None)


def test_rates_that_are_known_are_found_again():
    found = fitted()
    assert found.python_us == pytest.approx(2.0 + BASE_US, rel=0.1)
    predictions = [
        (t.us, sum(found.kernels[n].us @ [getattr(w, f) for f in module_features()]
                   for n, w in t.work.classes.items() if n in found.kernels
                   and n not in ("call.feed", "call.fetch")) + BASE_US)
        for t in readings().kernels
    ]  # fmt: skip
    errors = [abs(np.log(mine / theirs)) for theirs, mine in predictions]
    assert np.median(errors) < 0.02


def module_features():
    from fieldtune.profiles.costmodel.tflite_work import FEATURES

    return FEATURES


def test_graphs_are_predicted_by_fits_that_have_not_seen_them():
    usual, slow = readings().mixes
    doubled = replace(readings(), mixes=(usual, replace(slow, us=2 * slow.us)))
    first, second = left_out_errors(doubled)
    # The machine is known but for the graph that took twice as long: predicted by the other one, it
    # is off by two, and makes the other's prediction slower.
    assert second[0] == pytest.approx(-np.log(2), abs=0.1)
    assert first[0] > 0.3


@pytest.mark.usefixtures("known_machine")
def test_how_true_a_measured_profile_is_comes_from_graphs_left_out(tmp_path, monkeypatch):
    _, path = a_profile(tmp_path, PC, monkeypatch)
    held_out = load_profile(path).held_out["one thread"]
    # A quarter is off by more than what the intervals of the other three allow for.
    assert (held_out.rows, held_out.left_out, held_out.holds) == (24, "models", 0.75)
    assert held_out.most == pytest.approx(np.exp(0.3) - 1, abs=0.01)
    rates = load_profile(path).classes["conv.conv_2d.pointwise"]
    assert rates.high >= np.exp(0.3)


def test_what_a_call_takes_more_after_a_large_graph_is_found():
    def cold(model: bytes) -> Timing:
        known = call(model)
        return Timing(known.work, known.us + 3.0 * known.work.classes["call.feed"].runs)

    models = [call_overhead(size, fed, 1, layers) for size in (1, 1_000) for fed in (1, 4, 9)
              for layers in (0, 8, 64)]  # fmt: skip
    found = fit(replace(readings(), calls=tuple(cold(model) for model in models)))
    feed = dict(zip(module_features(), found.kernels["call.feed"].us, strict=True))
    assert feed["runs"] == pytest.approx(3.0, rel=0.1)
    assert feed["count"] == pytest.approx(FEED_US, rel=0.1)


@pytest.mark.usefixtures("known_machine")
def test_a_measured_profile_loads_and_predicts_what_was_measured(tmp_path, monkeypatch):
    _, path = a_profile(tmp_path, PC, monkeypatch)
    profile = load_profile(path)
    errors = []
    for begin in range(20, 100, 10):
        work = read_work(graph(samples()[begin : begin + 10]))["main"]
        tensors = work.classes["call.feed"].count + work.classes["call.fetch"].count
        us = known_us(work) + 2.0 + FEED_US * tensors
        errors.append(abs(call_ms(profile, work).value * 1e3 / us - 1))
    assert np.median(errors) < 0.05
    assert max(errors) < 0.25


@pytest.mark.integration
def test_what_is_measured_says_so_and_how_and_when(tmp_path, monkeypatch):
    _, path = a_profile(tmp_path, PC, monkeypatch)
    tables = tomllib.loads(path.read_text())
    for name in ("op_dispatch_us", "memory_copy_mb_s", "process_mib", "cores"):
        assert tables[name]["basis"] == "measured"
        assert "fieldtune profiles measure, ai_edge_litert, 2026-01-02" in tables[name]["source"]
    assert all(rates["basis"] == "measured" for rates in tables["classes"].values())


@pytest.mark.usefixtures("known_machine")
def test_what_the_host_does_not_report_is_left_out_and_never_guessed(tmp_path, monkeypatch):
    measured, path = a_profile(tmp_path, PC, monkeypatch)
    missing = {"clock_mhz", "idle_w", "loaded_w", "radio_w", "upload_mbit_s", "availability"}
    assert missing <= set(measured.missing)
    assert measured.board is None
    profile = load_profile(path)
    shown = CliRunner().invoke(cli.app, ["show", str(path)]).stdout
    for name in measured.missing:
        assert getattr(profile, name) is None
        (line,) = [line for line in shown.splitlines() if line.startswith(f"{name} ")]
        assert "not given" in line
    assert missing_values(profile, "energy_j") == (
        "download_mbit_s", "upload_mbit_s", "latency_ms", "idle_w", "loaded_w", "radio_w",
    )  # fmt: skip


@pytest.mark.usefixtures("known_machine")
def test_a_known_board_takes_what_a_minute_cannot_tell_from_the_catalogue(tmp_path, monkeypatch):
    measured, path = a_profile(tmp_path, PI, monkeypatch)
    profile, board = load_profile(path), load_profile("raspberry-pi-5")
    assert profile.loaded_w == board.loaded_w
    assert profile.latency_ms == board.latency_ms
    assert measured.board == "raspberry-pi-5"
    assert missing_values(profile, "energy_j") == ()
    assert profile.memory_free_mib.value == 3500
    assert profile.memory_free_mib.basis == "measured"


@pytest.mark.usefixtures("known_machine")
def test_a_board_is_the_profile_of_its_memory_as_everywhere(tmp_path, monkeypatch):
    measured, _ = a_profile(tmp_path, replace(PI, memory_total_mib=8000.0), monkeypatch)
    assert measured.board == "raspberry-pi-5-8gb"


@pytest.mark.usefixtures("known_machine")
def test_a_board_that_throttles_is_said_to_have(tmp_path, monkeypatch):
    hot = replace(PI, throttling=("throttled",))
    _, path = a_profile(tmp_path, hot, monkeypatch)
    assert "THROTTLED meanwhile (throttled)" in load_profile(path).op_dispatch_us.source


@pytest.mark.usefixtures("known_machine")
def test_power_is_measured_where_the_board_tells_it(tmp_path, monkeypatch):
    watts = iter([3.0, 5.0, 7.0])
    monkeypatch.setattr(module.here, "power_w", lambda host: next(watts))
    monkeypatch.setattr(module, "probe", lambda root: PI)

    def benchmark(seconds, progress):
        progress(20, 100)
        progress(60, 100)
        return readings()

    tables = measure(benchmark=benchmark).tables
    assert tables["idle_w"]["value"] == 3.0
    assert tables["loaded_w"]["value"] == 6.0
    assert tables["loaded_w"]["basis"] == "measured"


@pytest.mark.usefixtures("known_machine")
def test_the_structure_of_the_file_is_always_the_same(tmp_path, monkeypatch):
    first, _ = a_profile(tmp_path, PC, monkeypatch)
    second, _ = a_profile(tmp_path, PC, monkeypatch)
    assert [*first.tables] == [*second.tables]
    assert [*first.tables["classes"]] == sorted(first.tables["classes"])
    places = [[*value_fields()].index(name) for name in first.tables if name in value_fields()]
    assert places == sorted(places)


@pytest.mark.usefixtures("known_machine")
def test_the_command_writes_a_profile_that_show_prints(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "run", lambda seconds, progress: readings())
    out = tmp_path / "mine.toml"
    done = CliRunner().invoke(cli.app, ["measure", "--out", str(out)])
    assert done.exit_code == 0
    assert "This host does not report" in done.stderr
    shown = CliRunner().invoke(cli.app, ["show", str(out)])
    assert shown.stdout.splitlines()[0].startswith("mine: ")
    assert "conv.conv_2d.pointwise" in shown.stdout


@pytest.mark.parametrize("out", ["mine.json", "nowhere/mine.toml"])
def test_a_place_that_no_profile_can_be_written_to_is_refused_before_measuring(tmp_path, out):
    done = CliRunner().invoke(cli.app, ["measure", "--out", str(tmp_path / out)])
    assert isinstance(done.exception, UsageError)
    assert "give a .toml file in a folder that exists" in str(done.exception)


@pytest.mark.integration
def test_the_runtime_of_this_machine_runs_every_graph_of_the_benchmark(monkeypatch):
    monkeypatch.setattr(microbench, "PASSES", 1)
    told = []
    found = run(0.0, progress=lambda done, of: told.append((done, of)))
    assert told[-1][0] == told[-1][1] == len(told) - 1
    graphs = sum(map(len, (found.kernels, found.parts, found.far, found.mixes, found.calls)))
    assert graphs + len(found.calls) == told[-1][1]  # a call is timed with and without Python
    assert all(timing.us >= 0 for timing in (*found.kernels, *found.calls))


def test_a_call_is_timed_after_it_ran_once_and_at_least_three_rounds():
    calls = []
    assert fastest_us(lambda: calls.append(1), 0.0) >= 0
    assert len(calls) > 2 + 3


rows = st.lists(st.lists(st.floats(0.1, 10), min_size=2, max_size=2), min_size=6, max_size=12)


@given(rows, st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-0.5, 2))
def test_rates_are_never_negative_and_explain_what_they_made(x, a, b, more):
    matrix = np.array(x)
    target = matrix @ [a, b]
    found = nonnegative(matrix, target, 1 / target)
    assert matrix @ found == pytest.approx(target, rel=0.05)
    assert (nonnegative(matrix, target + more * matrix[:, 0], 1 / target) >= 0).all()


def test_a_rate_that_explains_nothing_is_left_out():
    x = np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 5.0], [4.0, 2.0]])
    found = nonnegative(x, 2 * x[:, 0], np.ones(4))
    assert found == pytest.approx([2.0, 0.0])
