"""Study files: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.study.load import load_study, parse_study, study_text
from fieldtune.server.study.settings import own_settings

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


WEIGHTS = """
[decision]
weights = { error = 2 }
[decision."raspberry-pi-4b"]
weights = { macro_f1 = 0 }
"""


def test_weights_are_general_or_of_a_device_type() -> None:
    decision = parse_study(GOOD + WEIGHTS, "x").decision
    assert decision.for_device("raspberry-pi-4b").weights == {"error": 2, "macro_f1": 0}
    assert decision.for_device("raspberry-pi-5").weights == {"error": 2}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("raspberry-pi-4b", "raspberry-pi-4", "decision.'raspberry-pi-4' is for a device type"),
        ("macro_f1", "makro_f1", "decision.'raspberry-pi-4b'.weights has 'makro_f1'"),
        ("macro_f1 = 0", "macro_f1 = 0, error = 0", "'raspberry-pi-4b'.weights are all 0"),
        ("macro_f1 = 0", "macro_f1 = -1", r"decision\.raspberry-pi-4b\.weights\.macro_f1 = -1"),
    ],
)
def test_weights_that_cannot_be_are_refused(old: str, new: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        parse_study(GOOD + WEIGHTS.replace(old, new), "x")


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


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ('[server]\naggregation = "FedAdam"',
         r"is 'FedAdam', which is chosen by space\.server\.server_optimizer = 'adam': set that"),
        ('[server]\naggregation = "avarage"', r"'avarage' .did you mean 'average'|known are mean,"),
        ('[space.server]\nserver_optimizer = "adamm"', "'adamm': it must be one of sgd, adagrad"),
        ('[space.server]\nserver_optimizer = { low = 1, high = 2 }', "must be one of sgd"),
        ('[space.server]\naggregation = ["mean"]', "did you mean"),
        ('[space.server]\naggregation = "own:Rule"', "must be one of mean, trimmed_mean"),
        ('[server]\naggregation = "mean"\n[space.server]\naggregation = "median"', "set in both"),
        ('[space.server]\npatience = 0.5', "space.server.patience is not known"),
        ('[space.server]\nserver_tau = 0.0', "server_tau takes the value 0.0: it must be a number"),
    ],
)  # fmt: skip
def test_settings_of_the_server_that_do_not_work_are_refused(added: str, sentence: str) -> None:
    text = GOOD[: GOOD.index("[space.server]")] + added
    with pytest.raises(StudyError, match=sentence):
        parse_study(text, "x")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({LR: 'update = "int4"'}, "space.client.update takes the value 'int4': it must be one of"),
        ({LR: "topk_share = 0.1"}, "topk_share is a setting of update = 'topk': set that too"),
        ({LR: 'update = "topk"\ntopk_share = 0.0'}, "topk_share takes the value 0.0"),
        ({LR: 'personal_steps = { low = 0.0, high = 3.0 }'}, "personal_steps is a range of real"),
        ({LR: 'drift_correction = "scaffold"\nmomentum = 0.9'}, "not exact with momentum above 0"),
        ({LR: 'drift_correction = "scaffold"\nproximal = { low = 0.0, high = 1.0 }'},
         "not exact with proximal above 0"),
        ({LR: 'drift_correction = "scaffold"', '"mlp"': '"mlp"\noptimizer = "adam"'},
         "corrects steps of SGD, and task.optimizer is 'adam'"),
        ({LR: 'drift_correction = "scaffold"\n[server]\nmode = "buffered"'}, "needs rounds, and"),
        ({LR: 'drift_correction = "scaffold"', "[space.server]":
          "[space.server]\ndp_clip = 1.0\ndp_noise = 1.0"}, "without the noise of"),
        ({LR: 'drift_correction = "scaffold"\nlearning_rate = 0.0'}, "may be 0"),
        ({"[space.server]": "[space.server]\nserver_tau = 0.1"}, "server_tau is not used with"),
        ({"[space.server]": '[space.server]\nserver_beta_2 = 0.9\nserver_optimizer = "adagrad"'},
         "add 'yogi' or 'adam' to space.server.server_optimizer"),
        ({"rounds": "evaluate_every = 1\nrounds", "[space.server]":
          '[tuner]\nname = "fedex"\n[space.server]'}, "'fedex' evaluates its model at the end"),
        ({"[space.server]": '[space.server]\nfairness = 1.0'}, "a setting of aggregation = 'qfed"),
        ({"[space.server]": '[tuner]\nname = "fedex"\n[space.server]\naggregation = "qfedavg"'},
         "needs one learning rate for all clients of a round"),
    ],
)  # fmt: skip
def test_an_algorithm_that_cannot_work_is_refused(changes: dict[str, str], sentence: str) -> None:
    text = GOOD
    for old, new in changes.items():
        text = text.replace(old, new)
    with pytest.raises(StudyError, match=sentence):
        parse_study(text, "x")


def test_an_aggregation_of_ones_own_has_parameters_of_ones_own() -> None:
    own = 'patience = { low = 0.0, high = 0.9 }\n[server]\naggregation = "own:Rule"'
    study = parse_study(GOOD + own, "x")
    assert own_settings(study.full_space.defaults()) == {"patience": 0.45}


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
        ("trials = 4", "trials = true", "study has trials = true, where a number is needed"),
        ("round_s = 30", "round_s = false", "limits has round_s = false, where a number"),
        ("round_s = 30", 'round_s = "30 s"', "round_s = '30 s': must be a number, without quotes"),
        ('"small"', '"a/b"', "study.name is 'a/b': use up to 100 letters"),
        ('"small"', '".."', "study.name is '..': use up to 100 letters"),
        ('"mlp"', '"mlp"\nlabels = ["a", "a"]', "task.labels names 'a' twice"),
        ('"mlp"', '"mlp"\nlabels = ["a"]', "task.labels must have at least 2 entries"),
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


def test_a_file_of_any_editor_is_read_or_the_remedy_told(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_study(file) == parse_study(GOOD, "x")
    assert not study_text(file).startswith("\ufeff")
    file.write_bytes(GOOD.encode() + "# ä".encode("latin-1"))
    with pytest.raises(StudyError, match=r"is not UTF-8 \(line \d+\): save it as UTF-8"):
        load_study(file)
    with pytest.raises(StudyError, match="is a folder: give the path of a"):
        load_study(tmp_path)


PRIVATE = GOOD + "dp_clip = 1.0\ndp_noise = { low = 0.5, high = 2.0 }\n"


def test_a_study_may_tune_differential_privacy() -> None:
    study = parse_study(
        PRIVATE.replace('"-macro_f1"', '"epsilon"').replace("[limits]", "[limits]\nepsilon = 8"),
        "x",
    )
    assert study.limits.epsilon == 8
    assert study.study.objectives[1].signed_name == "epsilon"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "dp_noise = 1.0\n", "dp_noise without dp_clip"),
        (GOOD + "dp_clip = 1.0\n", "dp_clip without dp_noise"),
        (PRIVATE.replace("low = 0.5", "low = 0.0"), "must be a number above 0 and at most 1000"),
        (GOOD.replace('"-macro_f1"', '"epsilon"'), "infinite without noise"),
        (GOOD.replace("[limits]", "[limits]\nepsilon = 8"), "infinite without noise"),
        (PRIVATE + '[server]\naggregation = "median"\n', "aggregation is not 'mean'"),
        (PRIVATE + 'aggregation = { choices = ["mean"] }\n', "aggregation is not 'mean'"),
        (PRIVATE + '[tuner]\nname = "fedex"\n', "choose another tuner"),
        (PRIVATE + "[server]\ndp_delta = 0.2\n", "must be below 0.1"),
        (GOOD + "[server]\ndp_delta = 1.0\n", "dp_delta"),
        (
            PRIVATE.replace('"-macro_f1"', '"epsilon"')
            .replace('model = "mlp"', 'model = "mlp"\noptimizer = "adam"')
            .replace("[space.server]", "epsilon = 1e-7\n[space.server]"),
            "both an objective and a setting",
        ),
    ],
)
def test_differential_privacy_that_cannot_hold_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        parse_study(text, "x")
