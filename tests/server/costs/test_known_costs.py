"""What the tuner searches by agrees with what a configuration is judged by."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import pytest

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.costmodel.calibration import (
    NO_CORRECTIONS,
    Correction,
    Corrections,
    corrected,
)
from fieldtune.profiles.costmodel.cost import predict
from fieldtune.profiles.costmodel.limits import slack
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Manifest, WeightSpec
from fieldtune.server.costs.coefficients import MEASURES, calls_per_round, workload, works
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.study.config import COST_MEASURES
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.settings import client_settings

STUDY = parse_study(
    """
[study]
name = "s"
trials = 1
rounds = 3
objectives = ["error", "inference_ms", "energy_j", "received_bytes"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 10
devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }
[limits]
coverage = 0.6
round_s = 30
energy_j = 5
[limits."raspberry-pi-zero-2w"]
inference_ms = 0.2
[space.model]
width = { choices = [8, 16, 32, 64] }
[space.client]
batch_size = { choices = [8, 16] }
local_epochs = { low = 1, high = 8 }
[space.server]
clients_per_round = { low = 1, high = 10 }
""",
    "s",
)
NAMES = ["raspberry-pi-zero-2w"] * 5 + ["raspberry-pi-5"] * 5
MEMBERS = [
    Description(
        client=client, profile=name, train_samples=7 + 5 * client, test_samples=4,
        input_shape=(8, 8, 1), classes=10, runtime="x",
    )
    for client, name in enumerate(NAMES)
]  # fmt: skip
PROFILES = {name: load_profile(name) for name in sorted(set(NAMES))}


CORRECTIONS = {
    "raspberry-pi-5": Corrections(
        training=Correction(1.3, 1.2, 1.4, 3),
        inference=Correction(0.8, 0.7, 0.9, 3),
        memory=Correction(1.1, 1.0, 1.2, 3),
        power=Correction(1.2, 1.1, 1.3, 3),
    )
}


def manifest(width: int) -> Manifest:
    work = Work({"matmul": OpWork(4, 2e5 * width, 1e4 * width)}).to_json()
    return Manifest(
        artefact_sha256=f"{width:064d}", input_shape=(8, 8, 1), classes=10, micro_batch=8,
        hyperparameters=("learning_rate",),
        weights=(WeightSpec(name="w", shape=(100 * width,), dtype="float32", trainable=True),),
        parameters=100 * width, flops_per_step=1.0,
        work={"train": work, "evaluate": work, "infer": work},
        train_arena_bytes=4000 * width, infer_arena_bytes=400 * width,
        artefact_bytes=900 * width, model_bytes=500 * width,
    )  # fmt: skip


def cost_model() -> CostModel:
    return CostModel(STUDY, MEMBERS, PROFILES)


def known_costs(costs: CostModel) -> KnownCosts:
    known = KnownCosts(STUDY, costs)
    known.calibrate(CORRECTIONS)
    return known


def test_coefficients_give_what_the_profiles_cost_model_predicts() -> None:
    """Each client group by itself, with and without calibration."""
    for configuration in STUDY.full_space.sample(60, 0):
        made, costs = manifest(int(configuration.model["width"])), cost_model()
        costs.learn(configuration, made)
        settings = client_settings(configuration)
        rounds = costs.fleet.rounds_a_client(configuration)
        for calibration in ({}, CORRECTIONS):
            found = costs.of(configuration, calibration)
            for index, group in enumerate(costs.fleet.groups):
                calls = calls_per_round(
                    group.samples, int(settings["batch_size"]), int(settings["local_epochs"]), 8
                )
                load = workload(
                    made, works(made), calls=calls, rounds=rounds, samples=group.samples
                )
                cost = predict(PROFILES[group.profile], load)
                seen = corrected(cost, calibration.get(group.profile, NO_CORRECTIONS))
                gaps = slack(seen, costs.fleet.limits[group.profile])
                assert dict(
                    zip(costs.fleet.limit_names, found.gaps[:, index].tolist(), strict=True)
                ) == pytest.approx(dict.fromkeys(costs.fleet.limit_names, -1.0) | gaps, abs=1e-6)


def test_forecast_sampler_and_report_have_the_same_numbers() -> None:
    costs = cost_model()
    known = known_costs(costs)
    for configuration in STUDY.full_space.sample(60, 0):
        known.learn(configuration, manifest(int(configuration.model["width"])))
        forecast = costs.forecast(configuration, CORRECTIONS)
        said = known(configuration.flat())
        assert dict(said.constraints) == dict(forecast.constraints)
        assert said.objectives[2] == forecast.measures["energy_j"]
        found = costs.of(configuration, CORRECTIONS)
        for index, name in enumerate(costs.fleet.types):
            shown = forecast.devices[name].cost
            for measure, value in zip(MEASURES, found.figures[index], strict=True):
                estimate = getattr(shown, measure)
                assert estimate.low <= estimate.value == value <= estimate.high
        assert set(forecast.measures) == set(COST_MEASURES)


def test_what_was_not_compiled_is_read_off_what_was() -> None:
    costs, exact_costs = cost_model(), cost_model()
    formulas = known_costs(costs)
    assert not formulas.renewed()
    sample = STUDY.full_space.sample(200, 1)
    for width in (8, 64):
        example = next(c for c in sample if c.model["width"] == width)
        formulas.learn(example, manifest(width))
        assert formulas.renewed()
        formulas.learn(example, manifest(width))
        assert not formulas.renewed()
    for configuration in sample:
        width = int(configuration.model["width"])
        known = formulas(configuration.flat())
        exact_costs.learn(configuration, manifest(width))
        forecast = exact_costs.forecast(configuration, CORRECTIONS)
        assert set(known.objectives) == {1, 2, 3}
        assert set(known.constraints) == set(forecast.constraints)
        exact = forecast.measures["energy_j"]
        if width in (8, 64):
            assert known.objectives[2] == pytest.approx(exact, rel=1e-6)
        elif math.isfinite(exact) and math.isfinite(known.objectives[2]):
            assert 0.5 < known.objectives[2] / exact < 2


def test_a_guess_does_not_depend_on_the_order_of_learning() -> None:
    sample = STUDY.full_space.sample(200, 1)
    examples = {
        width: next(c for c in sample if c.model["width"] == width) for width in (8, 16, 64)
    }
    probes = [c.flat() for c in sample if c.model["width"] == 32][:20]
    answers = set()
    for order in permutations(examples):
        formulas = known_costs(cost_model())
        for width in order:
            formulas.learn(examples[width], manifest(width))
        answers.add(repr([formulas(probe) for probe in probes]))
    assert len(answers) == 1


def test_intervals_of_a_calibration_renew_nothing_that_the_tuner_searches_by() -> None:
    known = known_costs(cost_model())
    known.learn(STUDY.full_space.sample(1, 0)[0], manifest(8))
    assert known.renewed()
    surer = Correction(0.8, 0.79, 0.81, 30)
    known.calibrate({name: replace(each, inference=surer) for name, each in CORRECTIONS.items()})
    assert not known.renewed()
    known.calibrate({})
    assert known.renewed()
