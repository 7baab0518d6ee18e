"""A run goes on only with the data, code and versions that it began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.results.fingerprint import (
    FILE,
    Fingerprint,
    check_fingerprint,
    differences,
    read_fingerprint,
)
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.study.changes import Change

STUDY = """
[study]
name = "s"
trials = 1
rounds = 1
[task]
model = "mlp"
[fleet]
clients = 2
devices = { "raspberry-pi-5" = 1.0 }
[space.client]
learning_rate = 0.1
"""
BEGUN = Fingerprint(
    data="d" * 64, partition="p" * 64, trace="t" * 64,
    sources={"metric": {"own": "m" * 64}, "server.aggregation": {"own": "a" * 64}},
    versions={"numpy": "2.1"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"data": "e" * 64}, "data: dddddddddddd → eeeeeeeeeeee"),
        ({"partition": "q" * 64}, "partition: pppppppppppp → qqqqqqqqqqqq"),
        ({"trace": "u" * 64}, "fleet.availability.file: tttttttttttt → uuuuuuuuuuuu"),
        ({"sources": {"metric": {"own": "n" * 64}}}, "source of task.metric (own): mmmmmmmmmmmm"),
        (
            {"sources": {"metric": {**BEGUN.sources["metric"], "helper": "h" * 64}}},
            "source of task.metric (helper): absent → hhhhhhhhhhhh",
        ),
        (
            {"sources": {"server.aggregation": {"own": "b" * 64}}},
            "source of server.aggregation (own): aaaaaaaaaaaa → bbbbbbbbbbbb",
        ),
        ({"versions": {"numpy": "2.2"}}, "version of numpy: 2.1 → 2.2"),
    ],
)
def test_a_change_is_refused_with_what_it_is_or_accepted_and_recorded(
    changed: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    now, recorded = BEGUN.model_copy(update=changed), list[Change]()
    with RunFolder(tmp_path, STUDY) as folder:
        check_fingerprint(folder, BEGUN, any_trials=False, accept=None)
        check_fingerprint(folder, BEGUN, any_trials=True, accept=None)
        with pytest.raises(RunFolderError) as refused:
            check_fingerprint(folder, now, any_trials=True, accept=None)
        assert sentence in str(refused.value)
        assert "--out, or go on all the same with --accept-changes" in str(refused.value)
        assert read_fingerprint(folder) == BEGUN
        check_fingerprint(folder, now, any_trials=True, accept=recorded.extend)
        assert sentence in "; ".join(map(str, recorded))
        check_fingerprint(folder, now, any_trials=True, accept=None)


def test_rounds_of_trials_that_have_not_ended_are_done_again_after_a_change(tmp_path: Path) -> None:
    now = BEGUN.model_copy(update={"sources": {"server.aggregation": {"own": "b" * 64}}})
    with RunFolder(tmp_path, STUDY) as folder:
        check_fingerprint(folder, BEGUN, any_trials=False, accept=None)
        folder.checkpoint(0).save({"rounds": 3})
        check_fingerprint(folder, BEGUN, any_trials=False, accept=None)
        assert folder.checkpoint(0).load() == {"rounds": 3}
        check_fingerprint(folder, now, any_trials=False, accept=None)
        assert folder.checkpoint(0).load() is None


def test_what_is_not_known_or_has_no_trials_yet_is_no_change(tmp_path: Path) -> None:
    assert not list(differences(BEGUN, BEGUN.model_copy(update={"data": "", "partition": ""})))
    with RunFolder(tmp_path, STUDY) as folder:
        check_fingerprint(folder, BEGUN, any_trials=True, accept=None)  # of an earlier fieldtune
        other = BEGUN.model_copy(update={"data": "e" * 64})
        check_fingerprint(folder, other, any_trials=False, accept=None)
        assert read_fingerprint(folder) == other
        folder.write(FILE, "{")
        with pytest.raises(RunFolderError, match="is damaged, so it is not known whether"):
            check_fingerprint(folder, BEGUN, any_trials=True, accept=None)
        check_fingerprint(folder, BEGUN, any_trials=True, accept=lambda found: None)
