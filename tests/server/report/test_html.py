"""The report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html import unescape
from typing import get_args

import pytest

from fieldtune.client.contract.messages import Failure
from fieldtune.server.report import trials_view
from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import RunInfo
from fieldtune.server.report.view import promises
from fieldtune.server.results.schema import Outlook, Summary
from fieldtune.server.results.stored_choices import GainOf
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.objectives import MEASURES
from support.commandline import ROOT
from support.pages import HOSTILE, Parsed

MakeSummary = Callable[..., Summary]
OBJECTIVES = [
    ("error",),
    ("error", "inference_ms"),
    ("error", "inference_ms", "energy_j"),
    ("-macro_f1", "inference_ms", "energy_j", "sent_bytes"),
    ("loss", "round_s"),
]


@pytest.fixture(scope="module")
def html(summary: Summary) -> str:
    return render_html(summary)


@pytest.fixture(scope="module")
def page(html: str) -> Parsed:
    return Parsed(html)


def test_every_trial_of_the_front_and_every_device_is_in_the_page(
    page: Parsed, summary: Summary
) -> None:
    keys = {attributes.get("data-key") for attributes in page.all("th")}
    assert {str(point.trial) for point in summary.front} <= keys
    points = {point["trial"]: point for point in page.data["points"]}
    for point in summary.front:
        assert set(points[point.trial]["devices"]) == set(summary.devices)


def test_the_first_table_has_a_file_a_trial_and_a_command_each(
    page: Parsed, summary: Summary
) -> None:
    chosen = {choice.trial for choice in summary.recommended.values()}
    for trial in chosen:
        assert f"--trial {trial} --out {summary.study}-trial-{trial}.tflite" in page.text
    assert page.text.count("fieldtune export") == len(chosen)
    for device in summary.devices:
        assert page.text.count(device) >= 1


@pytest.mark.parametrize("with_defaults", [True, False])
@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_any_objectives_make_a_page(
    make_summary: MakeSummary, objectives: tuple[str, ...], with_defaults: bool
) -> None:
    page = Parsed(render_html(make_summary(objectives, with_defaults=with_defaults)))
    assert page.data["objectives"] == [name.removeprefix("-") for name in objectives]
    assert {"deploy", "choices", "tradeoff", "parameters", "finished"} <= set(page.sections)


def test_data_is_there_once_and_small(make_summary: MakeSummary) -> None:
    large = make_summary(attempts=2000)
    html = render_html(large)
    assert len(html) < 4_000_000
    assert len(Parsed(html).data["trials"]) == 2000


def test_an_empty_front_leaves_the_limits_and_a_sentence(make_summary: MakeSummary) -> None:
    page = Parsed(render_html(make_summary(tightness=100)))
    assert "The front is empty" in page.text
    assert page.sections == ["deploy", "finished", "notes"]


def test_failures_are_listed_with_their_reason(make_summary: MakeSummary) -> None:
    page = Parsed(render_html(make_summary(all_fail=True)))
    assert "every client ran out of memory" in page.text
    assert "finished" in page.sections


def test_requests_without_a_result_are_drawn_by_kind(make_summary: MakeSummary) -> None:
    failures = {"dropout": 2, "late": 8}
    html = render_html(make_summary().model_copy(update={"failures": failures}))
    text = Parsed(html).text
    assert "Requests without a result" in text
    assert text.index("came after the end of its round") < text.index("in the middle of its work")
    assert '--used:100.0%"></i>8<' in html
    assert '--used:25.0%"></i>2<' in html
    assert "without a result" not in Parsed(render_html(make_summary())).text


def test_every_kind_of_failure_is_explained(make_summary: MakeSummary) -> None:
    kinds = (*get_args(Failure), "surplus")
    counted = make_summary().model_copy(update={"failures": dict.fromkeys(kinds, 1)})
    assert all(what for _, what, _, _ in trials_view.lost(counted))


def test_failures_that_wasted_no_time_are_counted_too(make_summary: MakeSummary) -> None:
    summary = make_summary()
    timing = {"time_s": 9.0, "idle_s": 1.0, "wasted_s": 0.0}
    attempts = [each.model_copy(update={"timing": timing}) for each in summary.attempts]
    found = summary.model_copy(update={"attempts": attempts, "failures": {"out_of_memory": 3}})
    assert trials_view.times(found)[-1] == ("3", "requests without a result (out_of_memory 3)")


def test_a_study_without_trials_makes_a_page(make_summary: MakeSummary) -> None:
    page = Parsed(render_html(make_summary(attempts=0)))
    assert "No trial has ended yet" in page.text
    assert page.sections == ["deploy", "notes"]


def test_a_limit_says_which_value_would_have_sufficed(make_summary: MakeSummary) -> None:
    study = parse_study((ROOT / "simulations/studies/digits.toml").read_text(), "digits.toml")
    summary = make_summary()
    one = summary.attempts[1].model_copy(
        update={
            "state": "infeasible",
            "reason": "energy_j",
            "constraints": {"energy_j": 0.234, "coverage": 0.234, "memory_mib": -0.5},
        }
    )
    text = Parsed(render_html(summary.model_copy(update={"attempts": [one]}), RunInfo(study=study)))
    # The study's limit of 0.6 J, and 0.6 * 1.234 = 0.7404 J rounded up.
    assert "600 mJ on raspberry-pi-zero-2w 1 1 750 mJ 750 mJ" in text.text
    both = one.model_copy(update={"constraints": {**one.constraints, "memory_mib": 0.1}})
    text = Parsed(
        render_html(summary.model_copy(update={"attempts": [both]}), RunInfo(study=study))
    )
    assert "600 mJ on raspberry-pi-zero-2w 1 1 not alone not alone" in text.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "No further trial is expected to add 1 %"),
        ([0.05], "One more trial is expected to add 5 %"),
        ([0.1, 0.1], "The next trial is expected to add 10 % to the front's hypervolume, the next "
         "2 together 21 %."),
    ],
)  # fmt: skip
def test_the_page_says_what_more_trials_and_random_search_would_bring(
    summary: Summary, more: list[float], said: str
) -> None:
    outlook = Outlook(random=[0.0, 0.2, 0.3], more=more)
    page = Parsed(render_html(summary.model_copy(update={"outlook": outlook})))
    assert said in page.text
    assert page.data["random"]["trial"] == [[0.0, 0.2], [1.0, 0.3]]
    spent = [attempt.spent.get("device_s", 0.0) for attempt in summary.attempts]
    each = sum(spent) / len(spent)
    times = [when for when, _ in page.data["random"]["device_s"]]
    assert times == pytest.approx([0.0, each, 2 * each], rel=1e-4)


def test_a_promise_is_a_change_of_the_value_or_of_what_it_lacks(make_summary: MakeSummary) -> None:
    text = Parsed(render_html(make_summary(("macro_f1", "energy_j")))).text
    promises = text[text.index("What is promised") :]
    assert re.search(r"Macro F1, gap to 100 % simulated −\d+ % ± \d+ %", promises)  # noqa: RUF001
    assert re.search(r"Training energy predicted −\d+ % ± \d+ %", promises)  # noqa: RUF001


@pytest.mark.parametrize(("gain", "text"), [(0.25, "+25 %"), (-0.5, "−50 %")])  # noqa: RUF001
def test_of_a_metric_of_ones_own_a_gain_is_a_share_of_the_default(
    summary: Summary, gain: float, text: str
) -> None:
    chosen = summary.recommended["raspberry-pi-5"]
    own = GainOf(log=gain, noise=0.01, counted=gain, within_noise=False)
    changed = {"raspberry-pi-5": chosen.model_copy(update={"gains": {"metric": own}})}
    goals = (MEASURES["metric"],)
    rows = promises(summary.model_copy(update={"recommended": changed, "objectives": goals}))
    assert [cells for _, _, _, cells in rows] == [[text, "± 1 %", text]]


def test_a_small_noise_is_no_0_and_what_is_equal_gains_nothing(summary: Summary) -> None:
    chosen = summary.recommended["raspberry-pi-5"]
    gains = {
        "error": GainOf(log=0.3, noise=0.002, counted=0.3, within_noise=False),
        "energy_j": GainOf(log=0.0, noise=0.0, counted=0.0, within_noise=True),
    }
    changed = {"raspberry-pi-5": chosen.model_copy(update={"gains": gains})}
    rows = promises(summary.model_copy(update={"recommended": changed}))
    assert [cells[1:] for _, _, _, cells in rows] == [["± 0.2 %", "−26 %"], ["± 0 %", "none"]]  # noqa: RUF001


def test_importance_says_how_its_objective_is_known_and_a_small_share_is_no_0(
    summary: Summary,
) -> None:
    shares = {"error": {"width": 0.996, "depth": 0.004, "model": 0.0},
              "energy_j": {"width": 1.0, "depth": 0.0, "model": 0.0}}  # fmt: skip
    text = Parsed(render_html(summary.model_copy(update={"importance": shares}))).text
    table = text[text.index("Importance") : text.index("PED-ANOVA")]
    assert re.search(r"Error simulated Training energy predicted", table)
    assert re.search(r"width 99.6 % 100 % depth < 1 % 0 % model 0 % 0 %", table)


def test_one_trial_is_one(make_summary: MakeSummary) -> None:
    text = Parsed(render_html(make_summary(attempts=1))).text
    assert "1 trial trained" in text
    assert "1 trials" not in text


def test_the_error_of_files_and_clients_is_that_of_the_metric(make_summary: MakeSummary) -> None:
    summary = make_summary(with_files=True).model_copy(update={"metric": "macro_f1"})
    page = Parsed(render_html(summary))
    files = page.text[page.text.index("The files of what is recommended") :]
    assert "Error (1 - macro_f1) simulated" in files
    assert page.data["measures"]["error"]["label"] == "Error (1 - macro_f1)"


def test_a_choice_that_was_never_trained_is_named(make_summary: MakeSummary) -> None:
    study = parse_study((ROOT / "simulations/studies/digits.toml").read_text(), "digits.toml")
    summary = make_summary(choice="cnn")
    trained = sum(attempt.state == "completed" for attempt in summary.attempts)
    page = Parsed(render_html(summary, RunInfo(study=study)))
    assert f"model = mlp: never trained (0 of {trained})" in page.text
    width = next(each for each in page.data["parameters"] if each["name"] == "width")
    assert width["choices"] == [8, 16, 32, 64]


def test_the_page_loads_nothing(page: Parsed) -> None:
    for name, attributes in page.elements:
        for key in ("src", "href", "action", "data", "poster"):
            value = attributes.get(key) or ""
            assert not value or value.startswith(("#", "data:")), (name, key, value)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_styles_load_nothing(html: str) -> None:
    for style in re.findall(r"<style>(.*?)</style>", html, re.DOTALL):
        assert "url(" not in style
        assert "@import" not in style


def test_only_the_pages_own_script_may_run(html: str, page: Parsed) -> None:
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv")) or ""
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert not re.search(r"innerHTML|insertAdjacentHTML|eval\(", html)


def test_hostile_names_stay_text(make_summary: MakeSummary, page: Parsed) -> None:
    hostile = make_summary(study=HOSTILE, choice=HOSTILE)
    devices = dict(zip([HOSTILE, "b", "c"], hostile.devices.values(), strict=True))
    names = dict(zip(hostile.devices, devices, strict=True))
    hostile = hostile.model_copy(
        update={
            "devices": devices,
            "recommended": {names[d]: choice for d, choice in hostile.recommended.items()},
            "front": [
                point.model_copy(
                    update={"devices": {names[d]: seen for d, seen in point.devices.items()}}
                )
                for point in hostile.front
            ],
            "attempts": [
                a.model_copy(update={"reason": HOSTILE}) if a.state == "failed" else a
                for a in hostile.attempts
            ],
        }
    )
    dangerous = Parsed(render_html(hostile))
    assert len(dangerous.all("script")) == len(page.all("script"))
    assert not dangerous.all("img")
    assert HOSTILE in unescape(dangerous.text)
    assert not any("<" in script for script in dangerous.scripts if script.startswith("{"))


def test_the_same_summary_gives_the_same_bytes(html: str, summary: Summary) -> None:
    again = Summary.model_validate_json(summary.model_dump_json())
    assert render_html(again) == html


def test_the_notes_tell_predicted_from_measured(page: Parsed, summary: Summary) -> None:
    assert "Predicted, not measured" in page.text
    assert "the Wilson interval over 360 test samples" in page.text
    measured = Parsed(render_html(summary.model_copy(update={"simulated": False})))
    assert "Predicted, not measured" not in measured.text


def test_the_notes_count_the_reports_that_were_refused(page: Parsed, summary: Summary) -> None:
    assert "Reports refused" not in page.text
    counts = {"attic": {"steps": 2, "clipped": 1}, "shed": {"message": 3}}
    refused = Parsed(render_html(summary.model_copy(update={"refused": counts})))
    assert "Of attic: steps (2), clipped (1); of shed: message (3)." in refused.text


def test_ids_are_used_once(page: Parsed) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
