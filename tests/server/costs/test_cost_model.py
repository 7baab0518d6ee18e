"""What a configuration costs on a fleet, and whether the limits allow it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.costmodel.calibration import Correction, Corrections
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.manifest import Manifest, WeightSpec
from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.coefficients import calls_per_round
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.outcomes.trial import Forecast
from fieldtune.server.session.setup import make_cost_model
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.objectives import MEASURES

STUDY = """
[study]
name = "s"
trials = 1
rounds = 10
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 10
devices = {{ "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }}
[limits]
{limits}
[space.server]
clients_per_round = {{ choices = [5] }}
"""
WORK = Work({"matmul": OpWork(4, 2e6, 1e5)}).to_json()
MANIFEST = Manifest(
    artefact_sha256="0" * 64, input_shape=(8, 8, 1), classes=10, micro_batch=8,
    hyperparameters=("learning_rate",),
    weights=(WeightSpec(name="w", shape=(100,), dtype="float32", trainable=True),),
    parameters=100, flops_per_step=1.0, work={"train": WORK, "evaluate": WORK, "infer": WORK},
    train_arena_bytes=1000, infer_arena_bytes=100, artefact_bytes=1000, model_bytes=500,
)  # fmt: skip


def fleet(
    limits: str, samples: int = 16, **changes: Any
) -> tuple[StudyConfig, list[Description], dict[str, DeviceProfile]]:
    """Changes are made to every profile: a value of None is missing."""
    study = parse_study(STUDY.format(limits=limits), "s")
    names = ["raspberry-pi-zero-2w"] * 5 + ["raspberry-pi-5"] * 5
    members = [
        Description(
            client=client, profile=name, train_samples=samples, test_samples=4,
            input_shape=(8, 8, 1), classes=10, runtime="x",
        )
        for client, name in enumerate(names)
    ]  # fmt: skip
    profiles = {name: load_profile(name).model_copy(update=changes) for name in set(names)}
    return study, members, profiles


def cost_model(limits: str, samples: int = 16, **changes: Any) -> tuple[StudyConfig, CostModel]:
    study, members, profiles = fleet(limits, samples, **changes)
    return study, CostModel(study, members, profiles)


def of_defaults(
    study: StudyConfig, costs: CostModel, calibration: Calibration | None = None
) -> Forecast:
    costs.learn(study.space.defaults(), MANIFEST)
    return costs.forecast(study.space.defaults(), calibration)


def forecast(limits: str, samples: int = 16) -> Forecast:
    return of_defaults(*cost_model(limits, samples))


ZERO_MS = forecast("").devices["raspberry-pi-zero-2w"].cost.inference_ms.value
FIVE_MS = forecast("").devices["raspberry-pi-5"].cost.inference_ms.value


def test_without_narrow_limits_everyone_takes_part() -> None:
    seen = forecast("")
    assert seen.feasible
    assert seen.participants == tuple(range(10))


def test_who_is_asked_beyond_those_waited_for_costs_as_much() -> None:
    study, costs = cost_model("")
    few = of_defaults(study, costs).measures["energy_j"]
    more = replace(study.space.defaults(), server={"clients_per_round": 5, "over_selection": 1.3})
    expected = replace(study.space.defaults(), server={"clients_per_round": 7})
    found = costs.forecast(more).measures["energy_j"]
    assert found == costs.forecast(expected).measures["energy_j"] > few


def test_devices_on_which_it_does_not_fit_take_no_part() -> None:
    between = (ZERO_MS + FIVE_MS) / 2
    seen = forecast(f"inference_ms = {between}\ncoverage = 0.5")
    assert seen.feasible
    assert seen.participants == (5, 6, 7, 8, 9)
    assert seen.devices["raspberry-pi-zero-2w"].fitting == 0
    assert seen.devices["raspberry-pi-zero-2w"].slack["inference_ms"] > 0


def test_they_count_against_coverage() -> None:
    between = (ZERO_MS + FIVE_MS) / 2
    seen = forecast(f"inference_ms = {between}\ncoverage = 0.6")
    assert not seen.feasible
    assert seen.constraints["inference_ms"] == pytest.approx(ZERO_MS / between - 1)
    assert seen.constraints["coverage"] > 0
    assert seen.constraints["memory_mib"] <= 0


def test_a_limit_on_one_device_type_does_not_touch_the_others() -> None:
    seen = forecast(f'[limits."raspberry-pi-zero-2w"]\ninference_ms = {ZERO_MS * 1.01}')
    assert seen.feasible
    seen = forecast(f'[limits."raspberry-pi-5"]\ninference_ms = {FIVE_MS * 0.99}')
    assert not seen.feasible
    assert seen.participants == (0, 1, 2, 3, 4)


def test_latency_is_the_slowest_types_and_energy_the_mean() -> None:
    seen = forecast("")
    assert seen.measures["inference_ms"] == ZERO_MS > FIVE_MS
    energies = [device.cost.energy_j.value for device in seen.devices.values()]
    assert seen.measures["energy_j"] == pytest.approx(sum(energies) / 2)


@given(
    st.integers(1, 200), st.integers(1, 64), st.integers(1, 5), st.integers(1, 16),
)  # fmt: skip
def test_calls_per_round_equal_those_of_the_trainers_loop(
    samples: int, batch_size: int, epochs: int, micro_batch: int
) -> None:
    calls = 0
    for _ in range(epochs):
        for start in range(0, samples, batch_size):
            batch = min(batch_size, samples - start)
            calls += len(range(0, batch, micro_batch))
    assert calls_per_round(samples, batch_size, epochs, micro_batch) == calls


SLOW = Correction(3.0, 2.9, 3.1, reports=50)


def test_reports_that_correct_a_type_change_its_costs_and_what_the_limits_allow() -> None:
    study, made = cost_model(f"inference_ms = {2 * ZERO_MS}\ncoverage = 0.5")
    before = of_defaults(study, made)
    after = of_defaults(study, made, {"raspberry-pi-zero-2w": Corrections(inference=SLOW)})
    assert before.participants == tuple(range(10))
    assert after.participants == (5, 6, 7, 8, 9)
    zero = after.devices["raspberry-pi-zero-2w"]
    assert zero.slack["inference_ms"] == pytest.approx(0.5)
    assert zero.cost.inference_ms.value == pytest.approx(3 * ZERO_MS)
    assert after.measures["inference_ms"] == FIVE_MS  # of those that take part


def test_training_that_is_slower_than_predicted_lengthens_the_round_by_just_that() -> None:
    study, made = cost_model("round_s = 1000")
    before = of_defaults(study, made).devices["raspberry-pi-5"]
    slower = {"raspberry-pi-5": Corrections(training=SLOW)}
    after = of_defaults(study, made, slower).devices["raspberry-pi-5"]
    assert before.cost.round_s is not None
    assert after.cost.round_s is not None
    longer = (1 + after.slack["round_s"]) * 1000 - before.cost.round_s.value
    assert longer == pytest.approx(2 * before.cost.training_s.value)
    assert after.cost.round_s.value == pytest.approx(before.cost.round_s.value + longer)


@pytest.mark.parametrize(
    ("limits", "hidden", "sentence"),
    [
        ("", "loaded_w", "the objective energy_j cannot be predicted on 'raspberry-pi-5': its "
         "profile does not tell loaded_w; add what you know to the profile, or drop the objective"),
        ("round_s = 3", "upload_mbit_s", "the objective energy_j cannot be predicted"),
    ],
)  # fmt: skip
def test_what_a_profile_does_not_tell_cannot_be_asked_for(
    limits: str, hidden: str, sentence: str
) -> None:
    with pytest.raises(StudyError, match=sentence):
        cost_model(limits, **{hidden: None})


def test_what_a_profile_does_not_tell_is_not_told_either() -> None:
    study, made = cost_model("", samples=16)
    told = of_defaults(study, made)
    only_error = study.model_copy(
        update={"study": study.study.model_copy(update={"objectives": (MEASURES["error"],)})}
    )
    profile = load_profile("raspberry-pi-5").model_copy(update={"idle_w": None})
    member = Description(
        client=0, profile="raspberry-pi-5", train_samples=16, test_samples=4,
        input_shape=(8, 8, 1), classes=10, runtime="x",
    )  # fmt: skip
    hiding = CostModel(only_error, [member], {"raspberry-pi-5": profile})
    cost = of_defaults(study, hiding).devices["raspberry-pi-5"].cost
    assert cost.energy_j is None
    assert cost.step_ms == told.devices["raspberry-pi-5"].cost.step_ms


def test_a_device_type_that_nobody_is_of_is_predicted_and_judges_nothing() -> None:
    limits = f'[limits."raspberry-pi-5"]\ninference_ms = {FIVE_MS / 2}'
    study = parse_study(STUDY.format(limits=limits), "s")
    there = [
        Description(
            client=client, profile="raspberry-pi-zero-2w", train_samples=samples, test_samples=4,
            input_shape=(8, 8, 1), classes=10, runtime="x",
        )
        for client, samples in enumerate((8, 24))
    ]  # fmt: skip
    seen = of_defaults(study, make_cost_model(study, there))
    absent, present = seen.devices["raspberry-pi-5"], seen.devices["raspberry-pi-zero-2w"]
    assert (absent.clients, absent.fitting) == (0, 0)
    assert (present.clients, present.fitting) == (2, 2)
    assert absent.slack["inference_ms"] == pytest.approx(1.0)
    assert absent.cost.inference_ms.value == pytest.approx(FIVE_MS)
    assert seen.feasible
    assert seen.participants == (0, 1)
    assert seen.measures["inference_ms"] == present.cost.inference_ms.value


def test_kept_coefficients_are_the_cost_model_until_a_profile_changes() -> None:
    study, members, profiles = fleet("")
    kept: list[str] = []
    there = of_defaults(study, CostModel(study, members, profiles, keep=kept.append))
    assert len(kept) == 1
    known = CostModel(study, members, profiles, kept=kept[0], keep=kept.append)
    assert of_defaults(study, known) == there
    assert len(kept) == 1  # there is nothing new to keep
    document = json.loads(kept[0])
    for architecture in document["architectures"].values():
        for table in architecture["coefficients"].values():
            table[0] = [2 * term for term in table[0]]  # of an inference
    doubled = CostModel(study, members, profiles, kept=json.dumps(document))
    assert of_defaults(study, doubled).measures["inference_ms"] == 2 * ZERO_MS
    name = "raspberry-pi-zero-2w"
    idle_w = profiles[name].idle_w
    assert idle_w is not None
    mine = profiles[name].model_copy(
        update={"idle_w": idle_w.model_copy(update={"source": "mine"})}
    )
    other = {**profiles, name: mine}
    changed = of_defaults(study, CostModel(study, members, other, kept=json.dumps(document)))
    assert changed.devices[name].cost.inference_ms.value == ZERO_MS
    assert changed.devices["raspberry-pi-5"].cost.inference_ms.value == 2 * FIVE_MS
    # Another model under the same name and parameters, or another fieldtune: nothing is kept.
    edited = MANIFEST.model_copy(update={"artefact_sha256": "1" * 64})
    costs = CostModel(study, members, profiles, kept=json.dumps(document))
    costs.learn(study.space.defaults(), edited)
    assert costs.forecast(study.space.defaults()) == there
    upgraded = json.dumps({**document, "version": "0.0.1"})
    assert of_defaults(study, CostModel(study, members, profiles, kept=upgraded)) == there


def test_a_forecast_is_computed_once_for_calibrations_that_differ_in_reports_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, costs = cost_model("")
    costs.learn(study.space.defaults(), MANIFEST)
    computed, compute = [], costs._forecast
    monkeypatch.setattr(costs, "_forecast", lambda *asked: computed.append(1) or compute(*asked))
    for reports in range(40, 60):
        seen = replace(SLOW, reports=reports)
        costs.forecast(study.space.defaults(), {"raspberry-pi-5": Corrections(inference=seen)})
    assert len(computed) == 1


MISSHAPEN = (
    '{"version": "0.1.0", "profiles": {}, "architectures": '
    '{"a": {"artefact": "", "coefficients": {"x": [[1.0]]}}}}'
)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "[" * 100_000, '{"measures": [], "profiles": 3}', MISSHAPEN,
     MISSHAPEN.replace("1.0", "NaN")],
)  # fmt: skip
def test_a_damaged_file_of_coefficients_is_computed_anew(text: str) -> None:
    study, members, profiles = fleet("")
    assert of_defaults(study, CostModel(study, members, profiles, kept=text)) == forecast("")


def test_device_types_come_in_the_same_order_in_every_process() -> None:
    """Else sums over them differ in the last bit, and a long search differs in everything."""
    names = ["raspberry-pi-zero-2w", "raspberry-pi-5", "raspberry-pi-4b", "x86-mini-pc",
             "jetson-nano", "android-mid", "beagle-a9", "coral-dev-board"]  # fmt: skip
    members = [
        Description(
            client=client, profile=name, train_samples=16, test_samples=4,
            input_shape=(8, 8, 1), classes=10, runtime="x",
        )
        for client, name in enumerate(names)
    ]  # fmt: skip
    made = make_cost_model(parse_study(STUDY.format(limits=""), "s"), members)
    assert made.fleet.types == sorted(names)


CALIBRATED = {
    "raspberry-pi-5": Corrections(
        training=Correction(factor=1.5, low=1.4, high=1.6, reports=3, simulated=False),
        inference=Correction(factor=0.8, low=0.7, high=0.9, reports=3, simulated=False),
    )
}


@pytest.mark.parametrize("calibration", [{}, CALIBRATED])
def test_what_a_client_needs_follows_from_its_samples_and_calls(calibration: Calibration) -> None:
    every = "memory_mib = 200\nstorage_mib = 9\nround_s = 30\ninference_ms = 9\nenergy_j = 9"
    study, members, profiles = fleet(every)
    members = [
        member.model_copy(update={"train_samples": 7 + 3 * member.client}) for member in members
    ]
    costs, configuration = CostModel(study, members, profiles), study.space.defaults()
    costs.learn(configuration, MANIFEST)
    architecture = costs.of_architecture(study.architecture(configuration), calibration)
    needs, gaps = architecture.needs(configuration), architecture.of(configuration).gaps
    fleet_groups = costs.fleet
    for index, group in enumerate(fleet_groups.groups):
        calls = calls_per_round(group.samples, 8, 1, MANIFEST.micro_batch)
        for limit, gap in zip(fleet_groups.limit_names, gaps[:, index], strict=True):
            constant, call, sample = needs[group.profile][limit]
            used = constant + call * calls + sample * group.samples
            cap = getattr(fleet_groups.limits[group.profile], limit)
            assert used == pytest.approx((1 + gap) * cap, rel=1e-9)
