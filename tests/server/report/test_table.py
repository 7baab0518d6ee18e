"""The report in the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import RunInfo, progress
from fieldtune.server.report.table import print_summary
from fieldtune.server.report.table_parts import objective_heading
from fieldtune.server.report.view import front_rows, in_one_line, on_device
from fieldtune.server.results.schema import Reported, Summary
from fieldtune.server.results.stored_choices import Against, GainOf
from fieldtune.server.study.objectives import MEASURES

MakeSummary = Callable[..., Summary]
OBJECTIVES = [
    ("error",),
    ("error", "inference_ms"),
    ("error", "inference_ms", "energy_j"),
    ("-macro_f1", "inference_ms", "energy_j", "sent_bytes"),
]


def printed(summary: Summary, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    print_summary(summary, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def widest(text: str) -> int:
    """Columns of the longest line that is no command, which is one line to be copied."""
    return max(len(line) for line in text.splitlines() if "fieldtune export" not in line)


@pytest.mark.parametrize("width", [80, 140, 200])
def test_every_trial_of_the_front_and_every_device_is_printed(summary: Summary, width: int) -> None:
    text = printed(summary, width)
    rows = [line.split() for line in text.splitlines()]
    for point in summary.front:
        assert any(str(point.trial) in row[:2] for row in rows)
    for device in summary.devices:
        assert device in text


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_nothing_is_cut_off_or_wider_than_the_terminal(
    make_summary: MakeSummary, objectives: tuple[str, ...], width: int
) -> None:
    text = printed(make_summary(objectives), width)
    assert widest(text) <= width
    assert "…" not in text


def test_names_of_device_types_stay_whole_beside_four_objectives(make_summary: MakeSummary) -> None:
    summary = make_summary(("macro_f1", "error", "energy_j", "sent_bytes"))
    text = printed(summary, 72)
    assert "…" not in text
    assert re.search(r"raspberry- .*\n pi-zero-2w ", text[text.index("What to deploy") :])


@pytest.mark.parametrize("width", [80, 140])
def test_no_value_of_a_configuration_is_torn_from_its_name(summary: Summary, width: int) -> None:
    text = printed(summary, width)
    for name, value in summary.front[0].configuration.items():
        if isinstance(value, int):
            assert f"{name}={value}" in text or name.split("_")[0] in text


def test_a_wide_terminal_has_a_column_for_each_hyperparameter(summary: Summary) -> None:
    assert "width=" in printed(summary, 80)
    assert "width=" not in printed(summary, 140)


def test_recommended_points_are_marked(summary: Summary) -> None:
    text = printed(summary, 140)
    for trial in {choice.trial for choice in summary.recommended.values()}:
        assert f"★ {trial}" in text


def test_figures_stand_beside_the_defaults_with_better_or_worse(summary: Summary) -> None:
    text = printed(summary, 140)
    assert "✓ 21 µs" in text
    assert "was 69 µs" in text
    assert "−70 %" in text  # noqa: RUF001


def test_a_figure_says_whose_it_is_how_it_is_known_and_on_how_many_runs_it_rests(
    summary: Summary,
) -> None:
    text = printed(summary, 80)
    for words in ("fleet", "worst type", "fleet mean", "this type", "simulated", "predicted"):
        assert words in text
    assert "1x" in text.split()
    measured = summary.model_copy(update={"simulated": False, "known_by": {"error": "measured"}})
    assert "measured" in printed(measured, 80)


def test_what_cannot_be_told_from_the_defaults_has_no_cross(summary: Summary) -> None:
    changed = {}
    for device, chosen in summary.recommended.items():
        worse = [
            each.model_copy(update={"better": False, "value": 1.01 * each.default})
            for each in chosen.against_defaults
        ]
        noise = GainOf(log=-0.01, noise=0.1, counted=0.0, within_noise=True)
        gains = dict.fromkeys(chosen.gains, noise)
        changed[device] = chosen.model_copy(update={"against_defaults": worse, "gains": gains})
    text = printed(summary.model_copy(update={"recommended": changed}), 140)
    assert "≈ 6.7 %" in text
    assert "as good as 7.2 %" in text
    assert "✗" not in text


def test_alternatives_have_their_price_and_the_reason(summary: Summary) -> None:
    text = printed(summary, 80)
    assert "raspberry-pi-5: instead of trial 15" in text
    assert "same" in text
    assert "−1.7 points" in text  # noqa: RUF001
    assert "+600 mJ" in text
    assert "trial 6: better on inference, which does not make up for training energy" in text


def moved(summary: Summary, trial: int, values: dict[str, float]) -> Summary:
    """A summary in which objectives of a point of the front have other values."""
    front = [
        point.model_copy(
            update={
                "objectives": {
                    **point.objectives,
                    **{name: Estimate(each, each, each) for name, each in values.items()},
                }
            }
        )
        if point.trial == trial
        else point
        for point in summary.front
    ]
    return summary.model_copy(update={"front": front})


def test_what_a_point_of_the_front_is_better_in_is_not_lost_in_rounding(
    make_summary: MakeSummary,
) -> None:
    summary = make_summary(("error", "energy_j"), with_defaults=False)
    one, other = (point.trial for point in summary.front[:2])
    summary = moved(summary, one, {"error": 0.07312, "energy_j": 3.0})
    summary = moved(summary, other, {"error": 0.07348, "energy_j": 2.0})
    text = printed(summary, 80)
    assert "7.31" in text
    assert "7.35" in text
    html = render_html(summary)
    assert ">7.31<" in html
    assert ">7.35<" in html


def test_defaults_on_the_front_are_one_row(summary: Summary) -> None:
    assert summary.defaults is not None
    front = [summary.defaults, *summary.front]
    titles = [title for title, _ in front_rows(summary.model_copy(update={"front": front}))]
    assert titles == [str(point.trial) for point in summary.front] + ["defaults"]


def test_a_better_figure_never_reads_as_the_default_does(summary: Summary) -> None:
    device = "raspberry-pi-5"
    chosen = summary.recommended[device]
    value = on_device(summary.point(chosen.trial), device, "inference_ms").value
    default = value * 1.0002
    against = [Against(objective="inference_ms", value=value, default=default, better=True)]
    gains = {"inference_ms": GainOf(log=2e-4, noise=1e-5, counted=2e-4, within_noise=False)}
    changed = chosen.model_copy(update={"against_defaults": against, "gains": gains})
    text = printed(summary.model_copy(update={"recommended": {device: changed}}), 140)
    better = re.search(r"✓ (\S+) µs", text)
    before = re.search(r"was (\S+) µs", text)
    assert better is not None
    assert before is not None
    assert float(better[1]) < float(before[1])


def test_a_long_heading_is_broken_between_words(summary: Summary) -> None:
    """Beside three other objectives a long one would leave no room for the number of runs."""
    found = objective_heading(summary, MEASURES["worst_error"], "Worst tenth's error (%)", "fleet")
    assert found.plain == "Worst tenth's\nerror (%)\nfleet\nsimulated"


def test_a_study_that_has_not_ended_says_so(summary: Summary) -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    print_summary(summary, console, RunInfo("interrupted"))
    assert "interrupted, 34 trials; metric" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "finished" not in printed(summary, 80)
    one = summary.model_copy(update={"attempts": summary.attempts[:1]})
    assert progress(one, RunInfo("running")) == "running, 1 trial"


def test_a_file_for_several_device_types_has_one_command(summary: Summary) -> None:
    chosen = summary.recommended["raspberry-pi-5"]
    same = dict.fromkeys(summary.devices, chosen)
    text = printed(summary.model_copy(update={"recommended": same}), 80)
    name = f"{summary.study}-trial-{chosen.trial}.tflite"
    (line,) = [each for each in text.splitlines() if f"--out {name}" in each]
    assert line.endswith("# for raspberry-pi-5 and raspberry-pi-zero-2w too")


def test_defaults_that_are_recommended_are_called_so(make_summary: MakeSummary) -> None:
    summary = make_summary(attempts=1)
    assert in_one_line(summary) == (
        "Trial 0 (the defaults) is the choice for every device type of this fleet."
    )
    assert "choice" not in in_one_line(summary.model_copy(update={"recommended": {}}))


def test_prices_say_how_they_are_known(summary: Summary) -> None:
    text = printed(summary, 80)
    prices = text[text.index("instead of trial") : text.index("To deploy")]
    assert re.search(r"simulated +predicted +predicted", prices)


def test_the_metric_is_called_by_its_name(summary: Summary) -> None:
    text = printed(summary.model_copy(update={"metric": "own:recall_of_malignant"}), 80)
    assert "1 - recall_of_malignant" in text


def test_the_last_row_of_the_front_is_the_defaults(summary: Summary) -> None:
    lines = printed(summary, 140).splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith("defaults"))
    assert not lines[first + 1].strip()


def test_without_defaults_nothing_is_compared(make_summary: MakeSummary) -> None:
    text = " ".join(printed(make_summary(with_defaults=False), 140).split())
    assert "was" not in text.split()
    assert "defaults were not trained" in text


def test_one_line_counts_what_became_of_the_trials(summary: Summary) -> None:
    assert "32 trials trained, 6 ruled out by limits, 2 failed" in printed(summary, 80)


def test_an_empty_front_says_what_ruled_things_out(make_summary: MakeSummary) -> None:
    text = " ".join(printed(make_summary(tightness=100), 80).split())
    assert "The front is empty: of 40 configurations tried, 40 were ruled out by the limits" in text
    assert "training memory (29)" in text


def test_a_study_without_trials_is_said_to_have_none(make_summary: MakeSummary) -> None:
    assert "No trial has ended yet" in printed(make_summary(attempts=0), 80)


def test_a_device_that_no_point_fits_says_so(summary: Summary) -> None:
    left_out = "raspberry-pi-zero-2w"
    kept = {device: c for device, c in summary.recommended.items() if device != left_out}
    text = printed(summary.model_copy(update={"recommended": kept}), 140)
    assert "no point of the front fits" in " ".join(text.split())


def test_markup_in_names_is_printed_as_it_is(make_summary: MakeSummary) -> None:
    text = printed(make_summary(study="[red]digits[/red]", choice="[bold]net"), 140)
    assert "[red]digits[/red]" in text
    assert "[bold]net" in text


def test_the_files_of_recommended_trials_are_listed_as_measured(summary: Summary) -> None:
    from fieldtune.server.results.stored_files import VariantFile

    file = VariantFile(bytes=12_345, sha256="0" * 64, measures={"error": 0.1234}, test_samples=9)
    front = [p.model_copy(update={"variants": {"dynamic": file}}) for p in summary.front]
    text = printed(summary.model_copy(update={"front": front}), 100)
    assert "Files to export" in text
    assert "dynamic" in text
    assert "12.1 KiB" in text
    assert "12.3 %" in text


def test_calibration_by_devices_breaks_no_word_in_80_columns(summary: Summary) -> None:
    def said(quantity: Any, value: float) -> Reported:
        return Reported(
            quantity=quantity, predicted=value, reported=1.5 * value,
            factor=Estimate(1.44, 1.2, 1.7), trials=40, reports=1234, left_out=17, simulated=False,
            devices=1,
        )  # fmt: skip

    quantities = [said("training", 12.3), said("inference", 0.0885), said("memory", 105.7)]
    real = summary.model_copy(
        update={"simulated": False, "reported": dict.fromkeys(summary.devices, quantities)}
    )
    text = printed(real, 80)
    assert widest(text) <= 80
    assert "…" not in text
    part = text[text.index("Predicted against reported") :]
    for word in (*summary.devices, "training call", "x 1.44", "throttled", "not measured"):
        assert word in part, word


def test_a_sentence_that_holds_for_several_device_types_is_printed_once(summary: Summary) -> None:
    same = summary.recommended["raspberry-pi-5"]
    text = " ".join(printed(
        summary.model_copy(update={"recommended": dict.fromkeys(summary.devices, same)}), 80
    ).split())  # fmt: skip
    assert text.count(same.why) == 1
    assert "raspberry-pi-4b, raspberry-pi-5 and raspberry-pi-zero-2w: " + same.why in text
    for each in same.alternatives[:3]:
        assert text.count(f"trial {each.trial}: {each.why_not}") == 1
