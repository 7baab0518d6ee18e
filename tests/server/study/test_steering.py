"""What a person may change in a study that runs, and what becomes of its trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import InfeasibleError, RunFolderError, StudyError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.feasible_space import check_queue
from fieldtune.server.costs.rescore import rescore
from fieldtune.server.outcomes.trial import Completed, Learned, Outcome, Proposal
from fieldtune.server.report.trials_view import phases, why_empty
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.summarize import summarise
from fieldtune.server.session.setup import make_artefacts
from fieldtune.server.study.changes import Changes, identity, steered
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration

STUDY = """
[study]
name = "steered"
trials = 10
rounds = 2
objectives = ["error", "inference_ms"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 2
devices = { "raspberry-pi-5" = 1.0 }
[limits]
inference_ms = 50
[space.model]
width = { choices = [8, 32] }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
local_epochs = { low = 1, high = 9, step = 2 }
"""
QUEUE = "[[queue]]\nwidth = 8\nlearning_rate = 0.1\nlocal_epochs = 3\n"
MEMBERS = [
    Description(
        client=client, profile="raspberry-pi-5", train_samples=24, test_samples=16,
        input_shape=(8, 8, 1), classes=10, runtime="x",
    )
    for client in range(2)
]  # fmt: skip


def study(*changes: tuple[str, str]) -> StudyConfig:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_study(text, "study.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("inference_ms = 50", "inference_ms = 40", ["limits.inference_ms: 50.0 → 40.0"]),
        ("inference_ms = 50", "coverage = 0.5", None),
        (
            "inference_ms = 50",
            'inference_ms = 50\n[limits."raspberry-pi-5"]\nround_s = 3',
            ["limits.raspberry-pi-5.round_s: absent → 3.0"],
        ),
        ("[8, 32]", "[32]", ["space.model.width.choices: [8, 32] → [32]"]),
        ("{ choices = [8, 32] }", "32", ["space.model.width.choices: [8, 32] → [32]"]),
        ("high = 1.0", "high = 0.5", ["space.client.learning_rate.high: 1.0 → 0.5"]),
        ("low = 0.01, high = 1.0, log = true", "choices = [0.1, 0.2]", None),
        ("low = 1, high = 9", "low = 3, high = 7", None),
        ("[study]", f"{QUEUE}[study]", None),
    ],
)
def test_these_may_change(old: str, new: str, said: list[str] | None) -> None:
    found = [str(each) for each in steered(identity(study()), study((old, new)), "runs/x")]
    assert found
    assert said in (None, found)


def test_more_trials_are_no_change() -> None:
    assert steered(identity(study()), study(("trials = 10", "trials = 12")), "runs/x") == ()
    named = study(('model = "mlp"', 'model = "mlp"\nlabels = ["no", "yes"]'))
    assert steered(identity(study()), named, "runs/x") == ()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("rounds = 2", "rounds = 3", "study.rounds (2 there, 3 here)"),
        ("clients = 2", "clients = 3", "fleet.clients"),
        ('"mlp"', '"logistic"', "task.model"),
        ("[8, 32]", "[8, 16]", "space.model.width.choices"),
        ("[8, 32]", "[8, 32, 64]", "space.model.width.choices"),
        ("high = 1.0", "high = 2.0", "space.client.learning_rate.high (1.0 there, 2.0 here)"),
        (", log = true", "", "space.client.learning_rate.log"),
        ("low = 1, high = 9", "low = 2, high = 8", "space.client.local_epochs"),
        ("step = 2", "step = 1", "space.client.local_epochs.step"),
        ("[8, 32] }", "[8, 32], default = 32 }", "space.model.width.default"),
        ("local_epochs = { low = 1, high = 9, step = 2 }", "", "space.client.local_epochs"),
    ],
)
def test_all_else_is_refused_by_its_key(old: str, new: str, key: str) -> None:
    with pytest.raises(RunFolderError, match="runs/x belongs to another study") as refused:
        steered(identity(study()), study((old, new)), "runs/x")
    assert key in str(refused.value)
    assert ("may only become narrower" in str(refused.value)) == key.startswith("space.")


def test_a_run_folder_takes_the_changed_study_over_and_refuses_another(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", STUDY):
        pass
    with RunFolder(tmp_path / "run", STUDY.replace("= 50", "= 40")) as folder:
        assert folder.study.limits.inference_ms == 40
    with pytest.raises(RunFolderError, match=r"study\.rounds"):
        RunFolder(tmp_path / "run", STUDY.replace("rounds = 2", "rounds = 3"))
    with RunFolder(tmp_path / "run") as folder:
        assert folder.study.limits.inference_ms == 40


def test_a_study_keeps_its_rungs_when_it_is_given_another_budget(tmp_path: Path) -> None:
    longer = STUDY.replace("rounds = 2", "rounds = 9")
    hours = longer.replace("trials = 10", "device_hours = 1")
    for name, first, then, rungs in (("a", longer, hours, ()), ("b", hours, longer, (3,))):
        for text in (first, then, then):
            with RunFolder(tmp_path / name, text) as folder:
                assert folder.study.rungs == rungs
    with pytest.raises(RunFolderError, match=r"tuner\.rungs"):
        RunFolder(tmp_path / "a", longer + "[tuner]\nrungs = [4]\n")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("widht = 8", "queue, entry 1: widht is no parameter of the space (did you mean 'width'?)"),
        ("width = 16", "queue, entry 1: width = 16 is not in the space, which takes 8, 32"),
        ("learning_rate = 2.0", "which takes 0.01 to 1.0"),
        ("local_epochs = 2", "which takes whole numbers from 1 to 9 in steps of 2"),
        ("width = [8]", "queue.0.width"),
    ],
)
def test_a_queued_configuration_that_cannot_be_is_a_sentence(entry: str, sentence: str) -> None:
    with pytest.raises(StudyError) as refused:
        parse_study(f"{STUDY}[[queue]]\n{entry}\n", "study.toml")
    assert sentence in str(refused.value)


def test_a_plain_value_fixes_a_parameter() -> None:
    fixed = study(("{ low = 0.01, high = 1.0, log = true }", "0.3"))
    assert fixed.space.client["learning_rate"].choices == (0.3,)
    assert fixed.space.defaults().client["learning_rate"] == 0.3


def test_changed_limits_judge_finished_trials_anew(recorded_artefacts: Path) -> None:
    loose = study()
    profiles = {"raspberry-pi-5": load_profile("raspberry-pi-5")}
    with CompileService(ArtefactCache(recorded_artefacts)) as service:
        artefacts = make_artefacts(loose, MEMBERS, service)
        outcomes: list[Outcome] = []
        costs = CostModel(loose, MEMBERS, profiles)
        for number, width in enumerate((8, 32, 32)):
            configuration = Configuration(
                model={"width": width}, client={"learning_rate": 0.1, "local_epochs": 1}, server={}
            )
            manifest = artefacts.of(configuration).result().manifest
            costs.learn(configuration, manifest)
            forecast = costs.forecast(configuration)
            assert forecast.feasible
            objectives = {
                "error": 0.3 / width,
                "inference_ms": forecast.devices["raspberry-pi-5"].cost.inference_ms.value,
            }
            learned = Learned({"error": 0.3 / width}, 10, 0, {}, True, rounds=3)
            proposal = Proposal(number, configuration, "refine")
            outcomes.append(Completed(proposal, forecast, learned, objectives, 0))
        small, large = (o.objectives["inference_ms"] for o in outcomes[:2])
        between = f"inference_ms = {(small * large) ** 0.5}"
        tight = study(("inference_ms = 50", between))
        costs = CostModel(tight, MEMBERS, profiles)
        for outcome in outcomes:
            configuration = outcome.proposal.configuration
            costs.learn(configuration, artefacts.of(configuration).result().manifest)
        changed = Changes(trial=3, in_flight=(2,), changes=())
        judged = rescore(outcomes[:2], costs, {})
        queued = parse_study(
            STUDY.replace("inference_ms = 50", between) + QUEUE.replace("width = 8", "width = 32"),
            "study.toml",
        )
        with pytest.raises(InfeasibleError, match=r"queue, entry 1: .* exceeds inference_ms by"):
            check_queue(queued, [], costs, artefacts)
        check_queue(tight, [], costs, artefacts)
    assert {p.trial for p in summarise(loose, outcomes[:2], {}, {}).front} == {0, 1}
    summary = summarise(tight, judged, {}, {}, [changed])
    assert {point.trial for point in summary.front} == {0}
    # What was trained and no longer fits is still a trial of its phase, and says so.
    assert [(a.state, a.rounds) for a in summary.attempts] == [("completed", 3), ("infeasible", 3)]
    assert phases(summary) == [("refine", 2)]
    nothing = summary.model_copy(update={"attempts": summary.attempts[1:], "front": []})
    assert why_empty(nothing) == (
        "The front is empty: of 1 configuration tried, 1 was ruled out by the limits on inference "
        "(1), 1 of these only once trained."
    )
    assert summary.changes == [changed]
