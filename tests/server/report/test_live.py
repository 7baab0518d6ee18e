"""A run on its way: what the page says of its state, and the page that follows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.report.live import serving
from fieldtune.server.report.run_info import progress, run_info
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Share, Summary, to_json
from support.commandline import ROOT

MakeSummary = Callable[..., Summary]
STUDY = (ROOT / "simulations/studies/digits.toml").read_text()


def half_done(make_summary: MakeSummary, attempts: int = 12) -> Summary:
    budget = [Share(budget="trials", used=attempts, of=40)]
    return make_summary(attempts=attempts).model_copy(update={"state": "running", "budget": budget})


def got(address: str, host: str = "") -> str:
    request = Request(address, headers={"Host": host} if host else {})
    with urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_a_study_is_running_while_its_folder_is_open_and_interrupted_afterwards(
    make_summary: MakeSummary, tmp_path: Path
) -> None:
    summary = half_done(make_summary)
    with RunFolder(tmp_path, STUDY) as folder:
        folder.write("pareto.json", to_json(summary))
        sent = sum(attempt.state != "infeasible" for attempt in summary.attempts)
        assert progress(summary, run_info(tmp_path, summary)) == f"running, {sent} of 40 trials"
    assert run_info(tmp_path, summary).state == "interrupted"
    assert run_info(tmp_path, summary).versions == ()
    (tmp_path / "fingerprint.json").write_text('{"versions": {"optuna": "5.0.0"}}')
    assert run_info(tmp_path, summary).versions == (("optuna", "5.0.0"),)
    ended = summary.model_copy(update={"state": "finished"})
    assert run_info(tmp_path, ended).state == "finished"


def test_the_served_page_follows_the_study(make_summary: MakeSummary, tmp_path: Path) -> None:
    with RunFolder(tmp_path, STUDY) as folder, serving(tmp_path) as address:
        with pytest.raises(HTTPError, match="503"):
            got(address)
        folder.write("pareto.json", to_json(half_done(make_summary, 5)))
        first, page = got(f"{address}version"), got(address)
        assert "running" in page
        assert f'"version":"{first}"' in page
        folder.write("pareto.json", to_json(half_done(make_summary, 9)))
        assert got(f"{address}version") != first
        assert len(got(address)) > len(page)
        with pytest.raises(HTTPError, match="404"):
            got(f"{address}study.toml")


def test_only_this_machine_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        with pytest.raises(HTTPError, match="403"):
            got(address, host="somewhere.example")
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UsageError, match="cannot be listened on"), serving(tmp_path, port):
            pass
