"""What a trial's card says of its files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.results.card import card_data, card_json, card_md
from fieldtune.server.results.schema import OnDevice, Point, Summary
from fieldtune.server.results.stored_choices import Recommendation
from fieldtune.server.results.stored_files import VariantFile
from fieldtune.server.study.load import parse_study

STUDY = parse_study(
    """
[study]
name = "s"
trials = 2
rounds = 7
objectives = ["error", "inference_ms"]
[task]
data = "digits"
model = ["mlp", "cnn"]
metric = "recall"
[fleet]
clients = 2
devices = { "raspberry-pi-5" = 1.0 }
[limits]
inference_ms = 20
[space.model]
width = { choices = [8, 16] }
[space.client]
learning_rate = { low = 0.01, high = 1.0 }
""",
    "s",
)
FILE = VariantFile(
    bytes=1234,
    sha256="ab" * 32,
    measures={"error": 0.1, "metric": 0.9},
    test_samples=100,
    inference_ms={"raspberry-pi-5": 0.5},
)
POINT = Point(
    trial=3,
    configuration={"model": "cnn", "width": 8, "learning_rate": 0.1 + 0.2},
    objectives={"error": Estimate(0.12, 0.1, 0.15), "inference_ms": Estimate(1.0, 0.5, 2.0)},
    measures={"error": 0.1, "metric": 0.9},
    test_samples=100,
    runs=2,
    devices={
        "raspberry-pi-5": OnDevice(
            clients=2,
            fitting=2,
            costs={"inference_ms": Estimate(1.0, 0.5, 2.0), "energy_j": None},
            slack={"inference_ms": -0.95, "storage_mib": -0.9998},
        )
    },
    variants={"fp32": FILE},
)
MEMBER = Description(
    client=0, profile="raspberry-pi-5", train_samples=30, test_samples=10, input_shape=(8, 8, 1),
    classes=2, runtime="x",
)  # fmt: skip
DATA = card_data(STUDY, [MEMBER])
SUMMARY = Summary(
    study="s",
    seed=0,
    objectives=STUDY.study.objectives,
    metric="recall",
    devices={"raspberry-pi-5": 2},
    simulated=True,
    trials=2,
    infeasible=0,
    failed=0,
    front=[POINT],
    recommended={"raspberry-pi-5": Recommendation(trial=3, why="", against_defaults=[])},
    defaults=None,
    attempts=[],
)


def test_the_header_of_a_card_is_a_model_index() -> None:
    header = card_md(STUDY, SUMMARY, POINT, DATA).split("---")[1]
    facts: dict[str, Any] = {
        key: json.loads(value)
        for key, _, value in (line.partition(": ") for line in header.strip().splitlines())
    }
    assert facts["datasets"] == ["digits"]
    assert facts["metrics"] == ["recall"]
    (result,) = facts["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "recall", "value": 0.9, "name": "recall of fp32.tflite"}]


@pytest.mark.parametrize(
    "words",
    [
        "Recommended for raspberry-pi-5.",
        "- Model: `cnn`: width = 8",
        "- learning_rate: 0.3",
        "- Data: `digits`, partition natural, else dirichlet",
        "- Runs of this configuration: 2",
        "| `fp32.tflite` | recall 0.9 (0.8256 to 0.9448) | raspberry-pi-5 0.5 ms |",
        "on the clients (simulated)",
        "| raspberry-pi-5 | inference_ms 1 (0.5 to 2) | inference_ms 5 %, storage_mib 0.02 % |",
        f"| `fp32.tflite` | 1234 | `{'ab' * 32}` |",
        'Interpreter("fp32.tflite")',
    ],
)
def test_a_card_says_task_data_metric_figures_limits_hashes_and_how_to_run(words: str) -> None:
    assert words in card_md(STUDY, SUMMARY, POINT, DATA)


def test_a_card_says_what_a_trial_is_for() -> None:
    for update, said in (
        ({"recommended": {}}, "On the study's front."),
        ({"recommended": {}, "front": [], "defaults": POINT}, "The study's defaults."),
        ({"defaults": POINT}, "Recommended for raspberry-pi-5. The study's defaults."),
    ):
        text = card_md(STUDY, SUMMARY.model_copy(update=update), POINT, DATA)
        assert f"\n\n{said} Federated training over 7 rounds" in text


def test_the_same_is_in_json() -> None:
    card = json.loads(card_json(STUDY, POINT, POINT.variants, DATA))
    assert card["variants"]["fp32"]["sha256"] == FILE.sha256
    assert card["objectives"]["error"] == {"value": 0.12, "low": 0.1, "high": 0.15}
    assert (card["seed"], card["rounds"], card["runs"]) == (0, 7, 2)
    assert card["limits"]["inference_ms"] == 20


def test_the_card_of_a_real_fleet_names_its_own_data_and_not_the_simulators() -> None:
    named = MEMBER.model_copy(update={"name": "pi-a", "labels": ("cat", "dog"), "scale": 255.0})
    data = card_data(STUDY, [MEMBER.model_copy(update={"name": "pi-b", "scale": 255.0}), named])
    card = json.loads(card_json(STUDY, POINT, POINT.variants, data))
    assert card["data"] == {
        "source": "the devices' own data", "devices": 2, "train_samples": 60, "test_samples": 20,
        "input_shape": [8, 8, 1], "classes": 2, "labels": ["cat", "dog"], "offset": 0.0,
        "scale": 255.0,
    }  # fmt: skip
    text = card_md(STUDY, SUMMARY, POINT, data)
    for words in ("Classes: `cat`, `dog`", "(value - 0) / 255", "own data: 2 devices, 60 training"):
        assert words in text
    assert "digits" not in json.dumps(card) + text
    assert card_data(STUDY, [MEMBER]).source == "digits"
