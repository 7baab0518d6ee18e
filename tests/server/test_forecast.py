"""What a configuration costs on a fleet, and whether the limits allow it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.messages import Description
from fieldtune.profiles.catalogue import load_profile
from fieldtune.profiles.work import OpWork, Work
from fieldtune.server.compiler.manifest import Manifest, WeightSpec
from fieldtune.server.forecast import Forecaster, calls_per_round, fleet_measure
from fieldtune.server.study import StudyConfig
from fieldtune.server.studyfile import parse_study
from fieldtune.server.trials import Forecast

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
    artefact_sha256="0" * 64, input_shape=(8, 8, 1), classes=10, micro_batch=8, loss="x",
    optimizer="sgd", hyperparameters=("learning_rate",),
    weights=(WeightSpec(name="w", shape=(100,), dtype="float32", trainable=True),),
    parameters=100, flops_per_step=1.0, work={"train": WORK, "evaluate": WORK, "infer": WORK},
    train_arena_bytes=1000, infer_arena_bytes=100, artefact_bytes=1000, model_bytes=500,
    checked_runtimes=(), versions={},
)  # fmt: skip


def forecast(limits: str, samples: int = 16) -> tuple[StudyConfig, Forecast]:
    study = parse_study(STUDY.format(limits=limits), "s")
    names = ["raspberry-pi-zero-2w"] * 5 + ["raspberry-pi-5"] * 5
    members = [
        Description(
            client=client, profile=name, train_samples=samples, test_samples=4,
            input_shape=(8, 8, 1), classes=10, runtime="x",
        )
        for client, name in enumerate(names)
    ]  # fmt: skip
    forecaster = Forecaster(study, members, {name: load_profile(name) for name in set(names)})
    return study, forecaster.forecast(study.space.defaults(), MANIFEST)


ZERO_MS = forecast("")[1].devices["raspberry-pi-zero-2w"].cost.inference_ms.value
FIVE_MS = forecast("")[1].devices["raspberry-pi-5"].cost.inference_ms.value


def test_without_narrow_limits_everyone_takes_part() -> None:
    _, seen = forecast("")
    assert seen.feasible
    assert seen.participants == tuple(range(10))


def test_devices_on_which_it_does_not_fit_take_no_part() -> None:
    between = (ZERO_MS + FIVE_MS) / 2
    _, seen = forecast(f"inference_ms = {between}\ncoverage = 0.5")
    assert seen.feasible
    assert seen.participants == (5, 6, 7, 8, 9)
    assert seen.devices["raspberry-pi-zero-2w"].fitting == 0
    assert seen.devices["raspberry-pi-zero-2w"].slack["inference_ms"] > 0


def test_they_count_against_coverage() -> None:
    between = (ZERO_MS + FIVE_MS) / 2
    _, seen = forecast(f"inference_ms = {between}\ncoverage = 0.6")
    assert not seen.feasible
    assert seen.constraints["inference_ms"] == pytest.approx(ZERO_MS / between - 1)
    assert seen.constraints["coverage"] > 0
    assert seen.constraints["memory_mib"] <= 0


def test_a_limit_on_one_device_type_does_not_touch_the_others() -> None:
    _, seen = forecast(f'[limits."raspberry-pi-zero-2w"]\ninference_ms = {ZERO_MS * 1.01}')
    assert seen.feasible
    _, seen = forecast(f'[limits."raspberry-pi-5"]\ninference_ms = {FIVE_MS * 0.99}')
    assert not seen.feasible
    assert seen.participants == (0, 1, 2, 3, 4)


def test_latency_is_the_slowest_types_and_energy_the_mean() -> None:
    _, seen = forecast("")
    assert fleet_measure(seen, "inference_ms") == ZERO_MS > FIVE_MS
    energies = [device.cost.energy_j.value for device in seen.devices.values()]
    assert fleet_measure(seen, "energy_j") == pytest.approx(sum(energies) / 2)


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
