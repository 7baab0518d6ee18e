"""What is chosen from stored trials within narrower limits is what a study with them recommends."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Manifest, WeightSpec
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.rescore import rescore
from fieldtune.server.outcomes.trial import Completed, Learned, Outcome, Proposal, objective_values
from fieldtune.server.results.needs import need_of, with_needs
from fieldtune.server.results.rerank import caps_of, choose
from fieldtune.server.results.summarize import summarise
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study

DEVICES = ("raspberry-pi-zero-2w", "raspberry-pi-5")
STUDY = """
[study]
name = "s"
trials = 60
rounds = 10
objectives = ["error", "inference_ms", "energy_j"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 10
devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }
[limits]
coverage = 0.5
[space.model]
width = { choices = [8, 32] }
depth = { choices = [1, 2] }
[space.client]
batch_size = { choices = [4, 8, 32] }
local_epochs = { low = 1, high = 4 }
drift_correction = { choices = ["none", "scaffold"] }
[space.server]
clients_per_round = { low = 2, high = 9 }
"""
MEMBERS = [
    Description(
        client=client, profile=DEVICES[client % 2], train_samples=9 + 3 * (client // 2),
        test_samples=9, input_shape=(8, 8, 1), classes=10, runtime="x",
    )
    for client in range(10)
]  # fmt: skip


def manifest(width: int, depth: int) -> Manifest:
    """Memory and storage go with the depth more than the work does."""
    work = Work({"matmul": OpWork(4, 2e4 * width, 1e3 * width)}).to_json()
    return Manifest(
        artefact_sha256=f"{width}{depth}", input_shape=(8, 8, 1), classes=10, micro_batch=8,
        hyperparameters=("learning_rate",),
        weights=(WeightSpec(name="w", shape=(9 * width,), dtype="float32", trainable=True),),
        parameters=9 * width, flops_per_step=1.0,
        work={"train": work, "evaluate": work, "infer": work},
        train_arena_bytes=2**20 * depth * (90 - width), infer_arena_bytes=100,
        artefact_bytes=1000 * depth, model_bytes=500 * depth,
    )  # fmt: skip


PROFILES = {name: load_profile(name) for name in DEVICES}
KEPT: list[str] = []
"""Coefficients, so that they are computed once."""


def cost_model(study: StudyConfig) -> CostModel:
    """It knows all architectures."""
    kept = KEPT[-1] if KEPT else None
    costs = CostModel(study, MEMBERS, PROFILES, kept=kept, keep=KEPT.append)
    defaults = study.full_space.defaults()
    for width, depth in itertools.product((8, 32), (1, 2)):
        model = {"width": width, "depth": depth}
        costs.learn(replace(defaults, model=model), manifest(width, depth))
    return costs


def trained(study: StudyConfig) -> list[Outcome]:
    """Trials whose error goes with their size, with noise; the first is of the defaults."""
    rng, costs = np.random.default_rng(0), cost_model(study)
    outcomes: list[Outcome] = []
    for number, configuration in enumerate(
        [study.full_space.defaults(), *study.full_space.sample(24, 0)]
    ):
        forecast, of = costs.forecast(configuration), configuration.flat()
        work = float(of["width"]) * float(of["local_epochs"]) * float(of["clients_per_round"])
        error = float(0.02 + 0.6 * work**-0.3 * np.exp(rng.normal(0, 0.2)))
        learned = Learned({"error": error}, 5000, 0.0, {}, True, rounds=10)
        values = objective_values(study.study.objectives, learned.measures, forecast)
        outcomes.append(Completed(Proposal(number, configuration), forecast, learned, values, 0))
    return outcomes


def test_it_is_what_the_study_recommends_once_it_has_these_limits() -> None:
    study = parse_study(STUDY, "s")
    outcomes = trained(study)
    summary = summarise(study, outcomes, {}, {}, dominated=True)
    summary = with_needs(summary, study, cost_model(study), {})
    on = {name: {each.name: 1.0 for each in study.study.objectives} for name in DEVICES}
    own = caps_of(study, DEVICES)
    as_before = {DEVICES[0]: {"memory_mib": own[DEVICES[0]]["memory_mib"]}}
    usual = {name: each.trial for name, each in summary.recommended.items()}
    assert choose(summary, on, 0.9, as_before, own) == usual
    rng = np.random.default_rng(1)
    behind = {point.trial for point in summary.dominated}
    seen = set()
    for _ in range(10):
        device, limit = rng.choice(DEVICES), rng.choice(
            ["memory_mib", "storage_mib", "round_s", "inference_ms", "energy_j"]
        )  # fmt: skip
        point = summary.stored[rng.integers(len(summary.stored))]
        needs = need_of(point, device, limit, summary.samples[device])
        assert needs
        cap = 1.001 * float(rng.choice(needs))
        found = choose(summary, on, 0.9, {device: {limit: cap}}, own)
        tight = parse_study(f'{STUDY}[limits."{device}"]\n{limit} = {cap!r}\n', "s")
        again = rescore(outcomes, cost_model(tight), {})
        wanted = summarise(tight, again, {}, {}).recommended
        assert found == {name: each.trial for name, each in wanted.items()}, (device, limit, cap)
        seen |= {*found.values()}
    assert seen & behind


@pytest.mark.parametrize("correction", ["none", "scaffold"])
def test_what_each_client_needs_is_stored_for_any_algorithm(correction: str) -> None:
    study = parse_study(STUDY, "s")
    defaults = study.full_space.defaults()
    configuration = replace(
        defaults, client={**defaults.client, "drift_correction": correction, "batch_size": 4}
    )
    costs = cost_model(study)
    forecast, learned = costs.forecast(configuration), Learned({"error": 0.1}, 99, 0.0, {}, True)
    values = objective_values(study.study.objectives, learned.measures, forecast)
    outcome = Completed(Proposal(0, configuration), forecast, learned, values, 0)
    summary = with_needs(summarise(study, [outcome], {}, {}), study, costs, {})
    found = costs.of(configuration, {})
    for index, group in enumerate(costs.fleet.groups):
        for limit, gap in zip(costs.fleet.limit_names, found.gaps[:, index], strict=True):
            samples = summary.samples[group.profile]
            needs = need_of(summary.front[0], group.profile, limit, samples)
            assert needs
            at = [count for count, _ in samples].index(group.samples)
            cap = getattr(costs.fleet.limits[group.profile], limit)
            assert needs[at] == pytest.approx((1 + gap) * cap, rel=1e-9)
