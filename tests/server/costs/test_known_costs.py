"""What the tuner searches by agrees with what a configuration is judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations

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
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Manifest, WeightSpec
from fieldtune.server.costs.algorithm_work import algorithm_work, step_factor, with_algorithm
from fieldtune.server.costs.architecture_costs import ArchitectureCosts, FleetCosts
from fieldtune.server.costs.coefficients import MEASURES, calls_per_round, workload, works
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.epsilon import Rounds, epsilon
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.objectives import COST_MEASURES
from fieldtune.server.study.settings import Algorithm, client_settings
from fieldtune.server.study.space import Configuration

STUDY_TEXT = """
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
update = { choices = ["float32", "int8", "topk"] }
topk_share = { low = 0.01, high = 0.5 }
download = { choices = ["float32", "float16"] }
drift_correction = { choices = ["none", "scaffold"] }
personal_steps = { low = 0, high = 9 }
[space.server]
clients_per_round = { low = 1, high = 10 }
aggregation = { choices = ["mean", "qfedavg"] }
"""
STUDY = parse_study(STUDY_TEXT, "s")
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
    costs = cost_model()
    for configuration in STUDY.full_space.sample(60, 0):
        made = manifest(int(configuration.model["width"]))
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
                added = algorithm_work(
                    Algorithm.of(configuration, STUDY.server), configuration,
                    parameters=made.parameters, micro_batch=8, samples=group.samples,
                )  # fmt: skip
                load = with_algorithm(load, added, made)
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


def test_many_at_once_are_what_they_are_one_by_one() -> None:
    together, alone = known_costs(cost_model()), known_costs(cost_model())
    sample = [each.flat() for each in STUDY.full_space.sample(80, 0)]
    for configuration in STUDY.full_space.sample(3, 1):  # of the other widths, costs are estimated
        for each in (together, alone):
            each.learn(configuration, manifest(int(configuration.model["width"])))
        together.prepare_many(sample)
        assert [together(values) for values in sample] == [alone(values) for values in sample]


def test_costs_are_computed_of_no_more_configurations_at_once_than_memory_is_there_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, of_many = [], ArchitectureCosts.of_many

    def counted(costs: ArchitectureCosts, asked: Sequence[Configuration]) -> list[FleetCosts]:
        sizes.append(len(asked))
        return of_many(costs, asked)

    monkeypatch.setattr(ArchitectureCosts, "of_many", counted)
    known, sample = known_costs(cost_model()), STUDY.full_space.sample(600, 0)
    known.learn(sample[0], manifest(int(sample[0].model["width"])))
    known.prepare_many([each.flat() for each in sample])
    assert max(sizes) == 64
    assert sum(sizes) > 500


def test_what_is_known_is_forgotten_where_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldtune.server.costs.known_costs._MOST_KEPT", 10)
    known, sample = known_costs(cost_model()), STUDY.full_space.sample(100, 0)
    for width in (8, 16):
        learned = next(each for each in sample if each.model["width"] == width)
        known.learn(learned, manifest(width))
    found = [known(each.flat()) for each in sample]
    assert [known(each.flat()) for each in sample] == found
    for kept in (known._compiled, known._others, known._architectures):
        assert len(kept) <= 11


def test_of_parameters_that_are_missing_the_first_of_the_space_is_named() -> None:
    known, names = known_costs(cost_model()), list(STUDY.full_space.parameters())
    values = STUDY.full_space.defaults().flat()
    for first, second in combinations(names, 2):
        given = {name: values[name] for name in values if name not in (first, second)}
        with pytest.raises(KeyError, match=f"^'{first}'$"):
            known(given)


def test_what_is_known_of_a_compiled_architecture_outlasts_the_compiling_of_another() -> None:
    known, sample = known_costs(cost_model()), STUDY.full_space.sample(40, 0)
    first = sample[0]
    other = next(each for each in sample if each.model["width"] != first.model["width"])
    known.learn(first, manifest(int(first.model["width"])))
    before, estimated = known(first.flat()), known(other.flat())
    known.learn(other, manifest(int(other.model["width"])))
    assert known(first.flat()) is before
    assert known(other.flat()) != estimated
    known.calibrate({})
    assert known(first.flat()) != before


def test_a_client_is_expected_to_take_what_the_profiles_cost_model_predicts() -> None:
    costs = cost_model()
    for configuration in STUDY.full_space.sample(20, 0):
        made = manifest(int(configuration.model["width"]))
        costs.learn(configuration, made)
        expected, settings = costs.expected(configuration), client_settings(configuration)
        algorithm = Algorithm.of(configuration, STUDY.server)
        for group in costs.fleet.groups:
            calls = calls_per_round(
                group.samples, int(settings["batch_size"]), int(settings["local_epochs"]), 8
            )
            load = workload(made, works(made), calls=calls, rounds=1.0, samples=group.samples)
            added = algorithm_work(
                algorithm, configuration, parameters=made.parameters, micro_batch=8,
                samples=group.samples,
            )  # fmt: skip
            load, profile = with_algorithm(load, added, made), PROFILES[group.profile]
            cost, link = predict(profile, load), Link.of(profile)
            seen = expected[group.clients[0]]
            assert seen.training == cost.step_ms * step_factor(profile, load)
            assert seen.memory == cost.memory_mib
            transfer_s = link.download_s(load.weight_bytes + load.more_received_bytes)
            transfer_s += link.upload_s(load.weight_bytes + load.more_sent_bytes)
            assert seen.round_s == cost.training_s.value + transfer_s


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


def test_epsilon_is_a_known_objective_and_limit_of_all_that_take_part() -> None:
    text = STUDY_TEXT.replace('"received_bytes"', '"epsilon"')
    text = text.replace("[limits]", "[limits]\nepsilon = 30")
    for line in text.splitlines():  # these are not private
        if line.startswith(("drift_correction", "aggregation")):
            text = text.replace(line, "")
    text += "dp_clip = 1.0\ndp_noise = { low = 0.3, high = 3.0, log = true }\n"
    study = parse_study(text, "s")
    costs = CostModel(study, MEMBERS, PROFILES)
    known, held = KnownCosts(study, costs), set()
    for configuration in study.full_space.sample(60, 0):
        width = int(configuration.model["width"])
        if width != 64:  # the others' architectures are compiled, this one's costs extrapolated
            known.learn(configuration, manifest(width))
    for configuration in study.full_space.sample(60, 1):
        found = known(configuration.flat())
        if configuration.model["width"] == 64:
            assert found.objectives[3] > 0
            continue
        forecast = costs.forecast(configuration)
        if not forecast.participants:
            assert found.objectives[3] == math.inf
            continue
        noise, rounds = float(configuration.server["dp_noise"]), study.study.rounds
        expected = int(configuration.server["clients_per_round"])
        chance = min(1.0, expected / len(forecast.participants))
        spent = epsilon(Rounds(chance, noise, rounds), 1e-5)
        assert found.objectives[3] == forecast.measures["epsilon"] == spent
        assert forecast.constraints["epsilon"] == spent / 30 - 1
        held.add(forecast.constraints["epsilon"] <= 0)
    assert held == {True, False}


def test_an_architecture_that_cannot_be_compiled_is_not_proposed() -> None:
    text = STUDY_TEXT.replace("energy_j = 5\n", "").replace(
        "inference_ms = 0.2", "inference_ms = 50"
    )
    study = parse_study(text, "s")
    known = KnownCosts(study, CostModel(study, MEMBERS, PROFILES))
    small, large = (
        replace(study.full_space.defaults(), model={"width": width}) for width in (8, 16)
    )
    known.learn(small, manifest(8))
    assert known.allow(large.flat())
    known.rule_out(large)
    assert not known.allow(large.flat())
    assert known.allow(small.flat())
