"""Study files: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.study.load import load_study, parse_study

STUDIES = Path(__file__).resolve().parents[3] / "simulations/studies"

GOOD = """
[study]
name = "small"
trials = 4
rounds = 2
objectives = ["error", "-macro_f1"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 10
devices = { "raspberry-pi-4b" = 0.5, "raspberry-pi-5" = 0.5 }
[limits]
round_s = 30
[limits."raspberry-pi-4b"]
inference_ms = 20
[space.model]
width = { choices = [8, 16] }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
[space.server]
clients_per_round = { low = 2, high = 5 }
"""
WIDTH, LR = (line for line in GOOD.splitlines() if line.startswith(("width", "learning_rate")))


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_study_of_the_repository_is_valid(file: Path) -> None:
    assert load_study(file).study.name == file.stem


def test_limits_narrow_by_device_and_fall_back_to_the_profile() -> None:
    limits = parse_study(GOOD, "x").limits
    default = DeviceLimits(memory_mib=100, storage_mib=1000)
    assert limits.for_device("raspberry-pi-4b", default) == DeviceLimits(
        memory_mib=100, storage_mib=1000, round_s=30, inference_ms=20
    )
    assert limits.for_device("raspberry-pi-5", default) == DeviceLimits(
        memory_mib=100, storage_mib=1000, round_s=30
    )


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (
            'loss = "mse"',
            r"study.objectives has 'error', which needs labels.*known are loss, infer",
        ),
        ('loss = "mse"\nlabel_smoothing = 0.1', "has label_smoothing, which loss = 'mse' has no"),
        ('loss = "mse"\nmetric = "auc"', "has the metric 'auc', which needs labels"),
        ('loss = "mes"', "must be 'sparse_categorical_crossentropy', 'mse'"),
    ],
)
def test_a_loss_without_labels_goes_with_nothing_that_needs_them(task: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        parse_study(GOOD.replace('model = "mlp"', f'model = "mlp"\n{task}'), "x")


def test_several_models_become_a_parameter() -> None:
    study = parse_study(GOOD.replace('"mlp"', '["mlp", "cnn"]'), "x")
    assert study.full_space.model["model"].choices == ("mlp", "cnn")
    chosen = study.full_space.configuration(
        {"model": "cnn", "width": 8, "learning_rate": 0.1, "clients_per_round": 3}
    )
    assert study.model_of(chosen) == ("cnn", {"width": 8})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("trials = 4", "trails = 4", "study.trails is not a known key (did you mean 'trials'?)"),
        ("[fleet]", "[fleat]", "fleat is not a known key (did you mean 'fleet'?)"),
        ("trials = 4", "trials = 0", "study.trials = 0"),
        ("trials = 4\n", "", "study has no stopping criterion: set trials, or a budget ("),
        ('"error"', '"eror"', "unknown objective 'eror' (did you mean 'error'?)"),
        ("= 0.5 }", "= 0.4 }", "shares that sum to 0.9: they must sum to 1"),
        ('[limits."raspberry-pi-4b"]', '[limits."raspberry-pi-4"]', "mean 'raspberry-pi-4b'"),
        ("inference_ms = 20", "inference = 20", "did you mean 'inference_ms'"),
        ("learning_rate", "learningrate", "did you mean 'learning_rate'"),
        ("high = 5", "high = 50", "goes up to 50, but the fleet has 10 clients"),
        ("low = 0.01", "low = 2.0", "low = 2.0 above high = 1.0"),
        ("log = true", "logs = true", "space.client.learning_rate.logs is not a known key"),
        ('data = "digits"', 'data = "digits"\nmetric = "acuracy"', "did you mean 'accuracy'"),
        ("width =", "learning_rate =", "names must differ"),
        ('"mlp"', '"mlp"\npartition = { kind = "shard" }', "task.partition.kind = 'shard'"),
        ('"mlp"', '"mlp"\npartition = { shards = 0 }', "task.partition.shards = 0"),
        (
            '"mlp"', '"mlp"\npartition = { kind = "iid", alpha = 1.0 }',
            "task.partition has alpha, which the kind 'iid' does not use: leave alpha out, or "
            "choose the kind dirichlet or quantity",
        ),
        ("[study]", "[study", "not valid TOML"),
        (LR, "batch_size = 0", "client.batch_size takes the value 0: it must be a whole number"),
        (LR, "batch_size = { low = 1.0, high = 8.0 }", "write its ends as whole numbers"),
        (LR, 'local_epochs = "two"', "local_epochs takes the value 'two': it must be a whole"),
        ("low = 0.01, high = 1.0, log = true", "low = -0.1, high = 1.0", "takes the value -0.1"),
        ("high = 1.0", "high = inf", "learning_rate has high = inf: it must be a number within"),
        (LR, "momentum = 1.5", "it must be a number of at least 0 and at most 1"),
        (LR, "clip_norm = -1", "space.client.clip_norm takes the value -1"),
        ("low = 2, high", "low = 0, high", "space.server.clients_per_round takes the value 0"),
        (WIDTH, "width = [8, 16]", "width is a list: did you mean { choices = [8, 16] }?"),
        (WIDTH, "width = { choices = 8 }", "has choices = 8: list them, as choices = [8, 16]"),
        (WIDTH, "width = { choices = [[8]] }", "width has the choice [8]: it must be a text"),
        (WIDTH, "width = 2020-01-01", "width must be a value, { choices = [...] }, or a range"),
        ('["error", "-macro_f1"]', '["error", "loss", "recall", "metric", "energy_j"]',
         "study.objectives names 5 objectives: name 1 to 4"),
        ('["error", "-macro_f1"]', '"error"', "study.objectives must be a list of measures"),
        ("round_s = 30", "round_s = inf", "limits.round_s = inf: must be a finite number"),
        ("rounds = 2", f"rounds = {10**30}", "must be less than or equal to 1000000"),
        ("trials = 4", f"trials = {'[' * 2000}{']' * 2000}", "nests lists or tables too deeply"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named_with_its_remedy(old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(StudyError) as refused:
        parse_study(GOOD.replace(old, new, 1), "small.toml")
    message = str(refused.value)
    assert sentence in message
    assert message.startswith("small.toml")
    assert "\n" not in message.removeprefix("small.toml is not valid TOML")


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="There is no study file"):
        load_study(tmp_path / "none.toml")
