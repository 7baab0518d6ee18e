"""A realistic summary: three device types, forty attempts, a front of a dozen points."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence

import moocore
import numpy as np
import pytest

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.results.recommend import recommend
from fieldtune.server.results.schema import (
    Attempt,
    ClassCounts,
    OnDevice,
    Point,
    Recommendation,
    Summary,
    VariantFile,
)
from fieldtune.server.results.summarize import wilson, worst_constraint
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import Objective, parse_objective
from fieldtune.server.study.space import Value

CLIENTS = {"raspberry-pi-4b": 40, "raspberry-pi-5": 20, "raspberry-pi-zero-2w": 40}
SLOWNESS = {"raspberry-pi-4b": 0.25, "raspberry-pi-5": 0.1, "raspberry-pi-zero-2w": 1.0}
POWER = {"raspberry-pi-4b": 2.0, "raspberry-pi-5": 2.6, "raspberry-pi-zero-2w": 0.5}
SAMPLES = 360
DEFAULTS: dict[str, Value] = {
    "model": "cnn",
    "width": 32,
    "depth": 2,
    "learning_rate": 0.05,
    "batch_size": 8,
    "local_epochs": 5,
    "clients_per_round": 20,
}
OBJECTIVES = ("error", "inference_ms", "energy_j")

MakeSummary = Callable[..., Summary]


@pytest.fixture(scope="session")
def make_summary() -> MakeSummary:
    return _summary


@pytest.fixture(scope="session")
def summary(make_summary: MakeSummary) -> Summary:
    return make_summary()


def _summary(
    objectives: Sequence[str] = OBJECTIVES,
    *,
    attempts: int = 40,
    study: str = "digits-on-pi",
    with_defaults: bool = True,
    tightness: float = 1.0,
    choice: str = "mlp",
    seed: int = 7,
    all_fail: bool = False,
    with_files: bool = False,
) -> Summary:
    """A study's summary; a tightness of 100 rules everything out."""
    rng = np.random.default_rng(seed)
    goals = tuple(map(parse_objective, objectives))
    made: list[Attempt] = []
    points: dict[int, Point] = {}
    for trial in range(attempts):
        configuration = DEFAULTS if trial == 0 else _configuration(rng, choice)
        point = _point(trial, configuration, rng)
        constraints = {
            "coverage": 0.0,
            "energy_j": tightness * point.devices["raspberry-pi-zero-2w"].costs["energy_j"].value
            / 7.0 - 1,
            "inference_ms": tightness * point.measures["inference_ms"] / 0.9 - 1,
            "memory_mib": tightness * point.measures["memory_mib"] / 160 - 1,
        }  # fmt: skip
        constraints["coverage"] = max(constraints.values())
        state = "completed"
        if max(constraints.values()) > 0:
            state = "infeasible"
        elif all_fail or trial in (11, 29):
            state = "failed"
        else:
            points[trial] = point
        made.append(
            Attempt(
                trial=trial,
                state=state,
                configuration=configuration,
                objectives={goal.name: point.measures[goal.name] for goal in goals}
                if state == "completed"
                else {},
                constraints={} if state == "failed" else constraints,
                reason=worst_constraint(constraints)
                if state == "infeasible"
                else "every client ran out of memory"
                if state == "failed"
                else "",
                rounds=0 if state == "infeasible" else 20,
                spent={}
                if state == "infeasible"
                else {"device_s": 20.0 + trial, "energy_j": 3.0, "sent_bytes": 1e6},
            )
        )
    names = [goal.name for goal in goals]
    points = {trial: _with_objectives(point, names) for trial, point in points.items()}
    if with_files:
        points = {trial: _with_files(point) for trial, point in points.items()}
    front = _front(list(points.values()), goals)
    defaults = points.get(0) if with_defaults else None
    return Summary(
        study=study,
        seed=0,
        objectives=goals,
        metric="accuracy",
        devices=CLIENTS if points else {},
        simulated=True,
        trials=sum(attempt.state != "infeasible" for attempt in made),
        infeasible=sum(attempt.state == "infeasible" for attempt in made),
        failed=sum(attempt.state == "failed" for attempt in made),
        front=front,
        recommended=recommended(front, defaults, goals, DecisionSection()),
        defaults=defaults,
        attempts=made,
    )


def recommended(
    front: Sequence[Point],
    defaults: Point | None,
    goals: Sequence[Objective],
    options: DecisionSection,
) -> dict[str, Recommendation]:
    """The rule's choice for each device type; learned values are known to one per cent."""
    compared = {
        goal.name: {
            point.trial: Estimate(value, value * 0.99, value * 1.01)
            for point in [*front, *([defaults] if defaults else [])]
            for value in [point.measures[goal.name]]
        }
        for goal in goals
        if goal.learned
    }
    found = {
        device: recommend(front, defaults, goals, device, options, compared) for device in CLIENTS
    }
    return {device: chosen for device, chosen in found.items() if chosen}


@pytest.fixture(scope="session")
def decide_again() -> Callable[[Summary, str], dict[str, int]]:
    """What the rule chooses for each device type with these lines of a study file."""

    def decide(summary: Summary, lines: str) -> dict[str, int]:
        tree = tomllib.loads(lines)
        caps: dict[str, dict[str, float]] = tree.get("limits", {})

        def within(point: Point) -> Point:
            seen = {
                name: device.model_copy(update={"fitting": 0})
                if any(device.costs[n].value > cap for n, cap in caps.get(name, {}).items())
                else device
                for name, device in point.devices.items()
            }
            return point.model_copy(update={"devices": seen})

        front = [within(point) for point in summary.front]
        defaults = summary.defaults and within(summary.defaults)
        options = DecisionSection.model_validate(tree.get("decision", {}))
        found = recommended(front, defaults, summary.objectives, options)
        return {device: chosen.trial for device, chosen in found.items()}

    return decide


def _configuration(rng: np.random.Generator, choice: str) -> dict[str, Value]:
    return {
        "model": str(rng.choice(["cnn", choice])),
        "width": int(rng.choice([8, 16, 32, 64])),
        "depth": int(rng.integers(1, 3)),
        "learning_rate": float(10 ** rng.uniform(-2, 0)),
        "batch_size": int(rng.choice([8, 16])),
        "local_epochs": int(rng.integers(1, 9)),
        "clients_per_round": int(rng.integers(5, 31)),
    }


def _point(trial: int, configuration: Mapping[str, Value], rng: np.random.Generator) -> Point:
    width, depth = int(configuration["width"]), int(configuration["depth"])
    epochs, clients = int(configuration["local_epochs"]), int(configuration["clients_per_round"])
    size = width * depth * (1.6 if configuration["model"] == "cnn" else 0.7)
    rate = abs(np.log10(float(configuration["learning_rate"])) + 0.7)
    error = 0.025 + 0.4 / size + 0.09 * rate**2 + 0.12 / (epochs * clients) ** 0.5
    error = round((error + abs(rng.normal(0, 0.006))) * SAMPLES) / SAMPLES
    devices = {
        device: OnDevice(
            clients=count,
            fitting=count,
            costs={
                name: Estimate(value, 0.75 * value, 1.45 * value, {"clock": 0.33})
                for name, value in _costs(size, epochs, clients, device).items()
            },
            slack={
                "memory_mib": (90 + size / 3) / 160 - 1,
                "round_s": epochs * (1 + size / 30) * SLOWNESS[device] / 30 - 1,
                "storage_mib": -0.995,
                **(
                    {"inference_ms": (0.05 + size / 160) / 0.9 - 1}
                    if device == "raspberry-pi-zero-2w"
                    else {}
                ),
            },
        )
        for device, count in CLIENTS.items()
    }
    worst = devices["raspberry-pi-zero-2w"].costs
    energy = sum(d.costs["energy_j"].value * d.clients for d in devices.values()) / 100
    return Point(
        trial=trial,
        configuration=dict(configuration),
        objectives={},
        measures={
            "accuracy": 1 - error,
            "error": error,
            "macro_f1": (1 - error) ** 1.1,
            "loss": 3 * error,
            "energy_j": energy,
            **{name: cost.value for name, cost in worst.items() if name != "energy_j"},
        },
        test_samples=SAMPLES,
        devices=devices,
    )


def _costs(size: float, epochs: int, clients: int, device: str) -> dict[str, float]:
    slow = SLOWNESS[device]
    return {
        "inference_ms": (0.05 + size / 160) * slow,
        "energy_j": (0.1 + size / 60) * epochs * clients / 30 * POWER[device] * slow * 1.5,
        "memory_mib": 90 + size / 3,
        "inference_memory_mib": 45 + size / 40,
        "storage_mib": 0.1 + size / 800,
        "round_s": epochs * (1 + size / 30) * slow,
        "sent_bytes": 900 * size * clients,
        "received_bytes": 950 * size * clients,
    }


def _with_objectives(point: Point, names: Sequence[str]) -> Point:
    found = {}
    for name in names:
        value = point.measures[name]
        if name in ("error", "accuracy", "macro_f1"):
            low, high = wilson(value, SAMPLES)
            found[name] = Estimate(value=value, low=low, high=high)
        else:
            spread = 0.0 if name == "loss" else 1.0
            found[name] = Estimate(
                value=value, low=value * (1 - 0.25 * spread), high=value * (1 + 0.45 * spread)
            )
    return point.model_copy(update={"objectives": found})


def _with_files(point: Point) -> Point:
    """The point with its files, as the clients of each type measured them."""
    rng = np.random.default_rng(point.trial)
    error = point.measures["error"]
    actual = [30, 36, 40, 34]
    hits = [round(count * (1 - error)) for count in actual]
    file = VariantFile(
        bytes=9000,
        sha256="0" * 64,
        measures={"error": error},
        test_samples=SAMPLES,
        inference_ms={device: 0.1 * slow for device, slow in SLOWNESS.items()},
        client_errors={
            device: sorted(rng.beta(1, 1 / error, count).round(4).tolist())
            for device, count in CLIENTS.items()
        },
        classes=ClassCounts(
            hits=hits,
            predicted=[*hits[:-1], sum(actual) - sum(hits[:-1])],
            actual=actual,
        ),
    )
    return point.model_copy(
        update={
            "variants": {"fp32": file, "dynamic": file.model_copy(update={"bytes": 3000})},
            "losses": [2.3 * 0.8**round for round in range(20)],
        }
    )


def _front(points: Sequence[Point], goals: Sequence[Objective]) -> list[Point]:
    if not points:
        return []
    signs = np.array([goal.sign for goal in goals])
    values = np.array([[i.value for i in p.objectives.values()] for p in points]) * signs
    keep = moocore.is_nondominated(values, keep_weakly=False)
    order = sorted(np.flatnonzero(keep), key=lambda index: tuple(values[index]))
    return [points[index] for index in order]
