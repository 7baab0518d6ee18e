import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fieldtune.profiles.cli import app
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.measure.fit_table import fit_table, with_rates
from fieldtune.profiles.measure.held_out import (
    HALVES,
    Group,
    HeldOutRow,
    calibrated_half,
    summaries,
)
from fieldtune.profiles.measure.latency_table import Row, read_table
from fieldtune.profiles.measure.tflite_graphs import GraphBuilder

TRUE = {
    "float32_one_thread_gflop_s": 14.0,
    "float32_all_cores_gflop_s": 40.0,
    "memory_traffic_mb_s": 3000.0,
    "sync_us": 15.0,
}


@pytest.fixture(scope="module")
def works():
    data = Path(__file__).parents[1] / "data/published.json"
    return {
        name: Work({kernel: OpWork(int(n[0]), *n[1:]) for kernel, n in kernels.items()})
        for name, kernels in json.loads(data.read_text())["works"].items()
    }


def measured(works, noise=0.0, threads=(1, 2, 4)):
    """Latencies of a board that is not what the catalogue says of a Pi 4B."""
    rng = np.random.default_rng(0)
    board = with_rates(load_profile("raspberry-pi-4b"), TRUE)
    return [
        Row(name, call_ms(board, work, threads=n).value * np.exp(rng.normal(0, noise)), n,
            "xnnpack", "a bench", work)
        for name, work in works.items() for n in threads
    ]  # fmt: skip


def test_the_rates_of_a_board_are_found_from_its_latencies(works):
    found = fit_table(load_profile("raspberry-pi-4b"), measured(works, noise=0.03), "bench")
    assert set(found.values) == set(TRUE)
    for name, value in found.values.items():
        # What goes beyond the L2 cache and what does not are hard to tell apart.
        off = 0.6 if name == "memory_traffic_mb_s" else 0.2
        assert value.value == pytest.approx(TRUE[name], rel=off), name
        assert value.basis == "fitted"
        assert value.source == "bench"
    rate = found.values["float32_one_thread_gflop_s"]
    assert rate.value == pytest.approx(14, rel=0.1)
    assert rate.low < rate.value < rate.high
    assert set(found.held_out) == {"one thread", "several threads"}
    for kind, number in (("one thread", 8), ("several threads", 16)):
        left = found.held_out[kind]
        assert (left.rows, left.left_out, left.sources) == (number, "families", "a bench")
        assert left.most < 0.2
        assert 0.8 <= left.holds <= 1.0
        assert 1.0 < left.width < 1.5


def left_out(works, errors):
    """Rows of one thread, and predictions that are off by the errors (log) of their families."""
    rows = [row for row in measured(works, threads=(1,)) if row.family in errors]
    groups = {
        name: Group(
            "families", frozenset((name,)), tuple(row for row in rows if row.family == name)
        )
        for name in errors
    }
    return [HeldOutRow(r, groups[r.family], r.ms * np.exp(errors[r.family])) for r in rows]


def test_coverage_and_width_of_a_family_come_from_the_other_families_alone(works):
    board = with_rates(load_profile("raspberry-pi-4b"), TRUE)
    halves = dict.fromkeys(TRUE, 0.01)
    families = sorted({row.family for row in measured(works)})
    exact = dict.fromkeys(families, 0.0)

    def stated(errors):
        return summaries(board, halves, left_out(works, errors))["one thread"]

    before, wrong = stated(exact), families[0]
    of_it = sum(row.family == wrong for row in measured(works, threads=(1,)))
    # A family that is far off is not held: its own error has no part in its interval, and the
    # predictions are those that were left out, not those of the whole fit (which are exact here).
    after = stated(exact | {wrong: 1.0})
    assert before.holds == 1.0
    assert after.holds == pytest.approx(1 - of_it / after.rows, abs=1e-3)
    # But the intervals of all others become wider.
    assert after.width > 1.2 * before.width


def test_intervals_hold_about_nine_in_ten_of_the_errors_that_were_left_out():
    errors = np.random.default_rng(0).normal(0, 0.2, 400)
    ends = np.stack([np.tile([-half, half], (400, 1)) for half in HALVES])
    half = calibrated_half(ends, errors, np.full(400, 0.1))
    assert 0.90 <= np.mean(np.abs(errors) <= half) <= 0.96
    # Where a few rows have no error at all, errors are still believed to be as usual.
    assert 0.05 < calibrated_half(ends[:, :3], np.zeros(3), np.full(3, 0.1)) < 0.12


def test_a_rate_of_which_the_table_says_nothing_stays_out_of_the_fit(works):
    found = fit_table(load_profile("raspberry-pi-4b"), measured(works, threads=(1,)), "bench")
    assert set(found.values) == {"float32_one_thread_gflop_s", "memory_traffic_mb_s"}


def test_an_outlier_does_not_decide(works):
    rows = measured(works)
    rows[0] = replace(rows[0], ms=5 * rows[0].ms)
    found = fit_table(load_profile("raspberry-pi-4b"), rows, "bench").values
    assert found["float32_one_thread_gflop_s"].value == pytest.approx(14, rel=0.1)


def test_more_threads_than_cores_are_refused(works):
    rows = measured(works, threads=(4,))
    with pytest.raises(UsageError, match=r"it has 4 cores, and a row has 9 threads$"):
        fit_table(load_profile("raspberry-pi-4b"), [*rows, replace(rows[0], threads=9)], "bench")


def test_fewer_rows_than_rates_are_refused(works):
    with pytest.raises(UsageError, match="raspberry-pi-4b cannot be fitted: 2 rows for 4 rates"):
        fit_table(load_profile("raspberry-pi-4b"), measured(works, threads=(4,))[:2], "bench")


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_latencies_in_another_unit_are_refused(works, factor):
    rows = [replace(row, ms=row.ms * factor) for row in measured(works)]
    with pytest.raises(UsageError, match=r"cannot be fitted: .* are they milliseconds"):
        fit_table(load_profile("raspberry-pi-4b"), rows, "bench")


@pytest.fixture
def models(tmp_path):
    """A folder with small products of four sizes."""
    folder = tmp_path / "models"
    folder.mkdir()
    for number, size in enumerate((64, 128, 256, 512), 1):
        builder = GraphBuilder()
        first, result = builder.tensor((256, size)), builder.tensor((256, size))
        weights = builder.constant(np.zeros((size, size), np.float32))
        options = ("FullyConnectedOptions", {})
        builder.op("FULLY_CONNECTED", [first, weights], [result], options)
        (folder / f"net{number}.tflite").write_bytes(builder.finish([first], [result]))
    (folder / "broken.tflite").write_bytes(b"not a model")
    return folder


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["model,mss", "net1,1"], r"column 'mss' is unknown \(did you mean 'ms'\?\)"),
        (["model", "net1"], "column 'ms' is missing"),
        (["model,ms", "other,1"], "no usable row; .* has none of its models"),
        (["model,ms"], "no usable row; there is none below"),
        (["model,ms", "net1,-3"], "line 2: ms = '-3' must be a number above 0"),
        (["model,ms", "net1,fast"], "line 2: ms = 'fast' must be a number above 0"),
        (["model,ms,threads", "net1,1,0.5"], "threads = '0.5' must be a whole number above 0"),
        (["model,ms,runtime", "net1,1,onnx"], "runtime 'onnx' is unknown: xnnpack or plain"),
        (["model,ms", "../models/net1,1"], "no usable row"),
        (["model,ms", "broken,1"], "broken.tflite: not a TFLite file"),
        (["model,ms,ms", "net1,1,2"], "column 'ms' is there twice"),
        (["model,ms", "net1,130,5"], "line 2: has more cells than there are columns"),
        (["ms,model", "5"], "no usable row; .* has none of its models"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, models, lines, said):
    with pytest.raises(UsageError, match=said):
        read_table(write(tmp_path / "table.csv", *lines), models)


def test_tables_of_spreadsheets_are_read(tmp_path, models):
    plain = read_table(write(tmp_path / "plain.csv", "model,ms", "net1,1.5", "net2,6"), models)
    for number, content in enumerate((
        b"\xef\xbb\xbfmodel,ms\r\nnet1,1.5\r\nnet2,6\r\n",
        b'"model", "ms"\n"net1", 1.5\n\nnet2, 6',
    )):  # fmt: skip
        table = tmp_path / f"table {number}.csv"
        table.write_bytes(content)
        assert read_table(table, models).rows == plain.rows


def test_texts_of_a_table_change_nothing_on_a_terminal_or_in_a_profile(tmp_path, models):
    table = write(tmp_path / "table.csv", "model,ms,source",
                  "net1,1,\x1b[2J" + "x" * 9999, "\x1b[31m" + "y" * 9999 + ",1,")  # fmt: skip
    found = read_table(table, models)
    texts = [*found.absent, *(row.source for row in found.rows)]
    assert len(texts) == 2
    for text in texts:
        assert text.isprintable()
        assert len(text) <= 200


def test_the_command_writes_a_profile_that_extends_its_base(tmp_path, models):
    table = write(tmp_path / "bench.csv", "model,ms,source",
                  *(f"net{n},{4**n * 0.4},mine" for n in (1, 2, 3, 4)), "net9,3,mine")  # fmt: skip
    out = tmp_path / "mine.toml"
    options = ["--profile", "raspberry-pi-4b", "--models", str(models), "--out", str(out)]
    done = CliRunner().invoke(app, ["fit", str(table), *options])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "one thread" in done.stdout
    assert "Left out: rows of models that" in done.stderr
    assert "(net9)" in done.stderr
    profile = load_profile(out)
    assert profile.held_out["one thread"].rows == 4
    assert profile.held_out["one thread"].left_out == "models"
    fitted = profile.float32_one_thread_gflop_s
    assert fitted.basis == "fitted"
    assert "bench.csv" in fitted.source
    assert profile.cores == load_profile("raspberry-pi-4b").cores
