"""Kill a study again and again at random moments: it ends as if nothing had happened.

``python tests/system/kills.py [--kills 100]`` prints how many rounds were done again.
``test_kills.py`` does the same with fewer kills.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import whole_study

MOST_ROUNDS, MOST_S = 5, 0.03
"""A session is killed up to this many rounds and seconds after its start and last round."""
Rounds = dict[int, list[str]]
"""Trial -> the rounds that one session sent out."""


def killed(folder: Path, trials: int, kills: int, seed: int) -> list[Rounds]:
    """Run a study to its end with so many kills; the rounds of each session."""
    rng, sessions = random.Random(seed), list[Rounds]()
    for _ in range(kills):
        sessions.append(_session(folder, trials, rng))
    sessions.append(_session(folder, trials, None))
    return sessions


def _session(folder: Path, trials: int, rng: random.Random | None) -> Rounds:
    log = folder / "log"
    log.write_text("")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            whole_study.run(folder, trials, log)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if rng is not None:
        wanted = rng.randint(1, MOST_ROUNDS)
        while log.read_text().count("\n") < wanted:
            assert not os.waitpid(child, os.WNOHANG)[0], "the study has ended: give it more trials"
            time.sleep(0.001)
        time.sleep(MOST_S * rng.random())
        os.kill(child, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == (0 if rng is None else -signal.SIGKILL), ended
    sent: Rounds = defaultdict(list)
    for line in log.read_text().splitlines():
        trial, _, what = line.partition(" ")
        if trial != "told":
            sent[int(trial)].append(what)
    return sent


def done_again(sessions: list[Rounds]) -> int:
    """How many rounds were sent twice; raises AssertionError if one trial's were at one kill."""
    count = 0
    for before, after in pairwise(sessions):
        for trial, rounds in after.items():
            again = [each for each in rounds if each in before.get(trial, [])]
            assert len(again) <= 1, f"trial {trial}: {again} were done again"
            count += len(again)
    return count


def main(
    kills: Annotated[int, typer.Option(help="How often.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill a study so often, and compare it with one that was left alone."""
    trials = 4 + kills // 2  # five rounds each; a session is killed after 3 on average
    with tempfile.TemporaryDirectory() as name:
        whole, parts = Path(name, "whole"), Path(name, "parts")
        for folder in (whole, parts):
            folder.mkdir()
        once = killed(whole, trials, 0, seed)
        sessions = killed(parts, trials, kills, seed)
        assert (parts / "end").read_text() == (whole / "end").read_text()
        typer.echo(
            f"{kills} kills in {trials} trials: the same bytes; of "
            f"{sum(map(len, once[0].values()))} rounds {done_again(sessions)} were done again, at "
            "most one of each trial and kill"
        )


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
