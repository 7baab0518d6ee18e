"""What a study shows while it works."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from fieldtune.server.outcomes.trial import Completed, Failed, Forecast, Learned, Proposal
from fieldtune.server.session.progress import ProgressDisplay
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration

STUDY = """
[study]
name = "s"
trials = 9
rounds = 1
objectives = ["error", "energy_j"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 2
devices = { "raspberry-pi-5" = 1.0 }
[space.model]
width = { choices = [8, 16] }
"""


def test_a_wait_is_a_line_now_and_then_where_there_is_no_terminal() -> None:
    text, now = io.StringIO(), 0.0
    with ProgressDisplay(
        parse_study(STUDY, "s"), [], Console(file=text, width=200), clock=lambda: now
    ) as display:
        for wait in ("first", "second"):
            for _ in range(61):
                display.waiting(f"{wait} wait at {now:.0f}")
                now += 1
            display.waiting("")
    lines = [f"first wait at {at}" for at in (5, 15, 35)]
    lines += [f"second wait at {at}" for at in (66, 76, 96)]
    assert text.getvalue().splitlines() == lines


@pytest.mark.parametrize(
    ("waits", "shown"), [(["waiting for pi-a"], True), (["waiting for pi-a", ""], False)]
)
def test_a_wait_stands_in_the_bar_of_a_terminal_while_it_lasts(
    waits: list[str], shown: bool
) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True)
    with ProgressDisplay(parse_study(STUDY, "s"), [], console) as display:
        for sentence in waits:
            display.waiting(sentence)
    last_frame = text.getvalue().rpartition("0/9")[2]  # drawn once more when the display ends
    assert ("waiting for pi-a" in last_frame) == shown


@pytest.mark.parametrize("width", [40, 60, 140])
def test_the_bar_leaves_out_what_does_not_fit_and_a_wait_is_shown_whole(width: int) -> None:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    sentence = "waiting for 2 more of kitchen, garage, cellar, attic, shed (no time limit)"
    with ProgressDisplay(parse_study(STUDY, "s"), [], console) as display:
        display.round_started(3, 1)
        display.round_started(4, 0)
        display.waiting(sentence)
    bar, *below = text.getvalue().rpartition("0/9")[2].splitlines()
    assert ("rounds 1 1 of 1" in bar) == (width >= 60)
    assert "rounds" not in bar or bar.rstrip().endswith("of 1")
    assert sentence in " ".join(line.strip() for line in below)
    assert "…" not in text.getvalue()


def test_lines_are_broken_between_words_on_a_terminal_and_whole_in_a_log() -> None:
    for terminal in (True, False):
        text = io.StringIO()
        console = Console(file=text, width=40, force_terminal=terminal, color_system=None)
        outcome = completed(0, 0.1, 2.0)
        with ProgressDisplay(parse_study(STUDY, "s"), [], console) as display:
            display.trial_ended(outcome, [outcome])
        said = "trial   0: error 10.0 %, training energy 2.0 J"
        assert (said in text.getvalue()) != terminal
        assert "training energy\n" in text.getvalue() or not terminal


def completed(number: int, error: float, energy_j: float) -> Completed:
    return Completed(
        Proposal(number, Configuration({"width": 8}, {}, {}), "refine"),
        Forecast({}, (), {"energy_j": -0.5}),
        Learned({"error": error}, 10, 0, {}, simulated=True),
        {"error": error, "energy_j": energy_j},
        0,
    )


def test_the_front_that_is_shown_is_that_of_the_limits_as_they_are_now() -> None:
    best, told = completed(0, 0.1, 2.0), completed(1, 0.3, 1.0)
    text = io.StringIO()
    with ProgressDisplay(parse_study(STUDY, "s"), [best], Console(file=text, width=200)) as display:
        display.trial_ended(told, [best, told])
        # A limit that became tighter judges the first one anew.
        judged, last = (
            replace(best, forecast=Forecast({}, (), {"energy_j": 0.2})),
            completed(2, 0.4, 0.5),
        )
        display.trial_ended(last, [judged, told, last])
    first, second = text.getvalue().splitlines()
    assert "front of 2, best error 10.0 %" in first
    assert "front of 2, best error 30.0 %" in second


def test_the_time_left_is_told_once() -> None:
    def shown(*, terminal: bool) -> str:
        text, seconds = io.StringIO(), iter(range(0, 1000, 10))
        console = Console(file=text, width=200, force_terminal=terminal)
        with ProgressDisplay(
            parse_study(STUDY, "s"), [], console, clock=lambda: next(seconds)
        ) as display:
            for number in range(4):
                outcome = Failed(Proposal(number, Configuration({"width": 8}, {}, {})), "none")
                display.trial_ended(outcome, [outcome])
                said = display._so_far()
        return said

    assert shown(terminal=False).startswith("4/9, ")
    assert shown(terminal=False).endswith(" s left")
    assert shown(terminal=True) == "4/9"
