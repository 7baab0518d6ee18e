"""A realistic summary: three device types, forty attempts, a front of a dozen points."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence

import moocore
import numpy as np
import pytest

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.common.shares import wilson
from fieldtune.profiles.costmodel.limits import DeviceLimits
from fieldtune.server.outcomes.trial import worst_constraint
from fieldtune.server.results.recommend import recommend
from fieldtune.server.results.schema import Attempt, OnDevice, Point, Summary
from fieldtune.server.results.stored_choices import Recommendation
from fieldtune.server.results.stored_files import ClassCounts, VariantFile
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.load import with_device_tables
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
    shown = {each.trial for each in [*front, *([defaults] if defaults else [])]}
    behind = [each for trial, each in points.items() if trial not in shown and trial < 500]
    return Summary(
        study=study,
        seed=0,
        objectives=goals,
        metric="accuracy",
        devices=CLIENTS if points else {},
        samples={
            name: [(12, count // 2), (36, count - count // 2)] for name, count in CLIENTS.items()
        },
        coverage=0.5,
        labels=("left", "right", "up", "down") if with_files else (),
        simulated=True,
        trials=sum(attempt.state != "infeasible" for attempt in made),
        infeasible=sum(attempt.state == "infeasible" for attempt in made),
        failed=sum(attempt.state == "failed" for attempt in made),
        front=front,
        dominated=behind,
        recommended=recommended(front, defaults, goals, DecisionSection(), behind),
        defaults=defaults,
        attempts=made,
    )


def recommended(
    front: Sequence[Point],
    defaults: Point | None,
    goals: Sequence[Objective],
    options: DecisionSection,
    behind: Sequence[Point] = (),
) -> dict[str, Recommendation]:
    """The rule's choice for each device type; learned values are known to one per cent."""
    compared = {
        goal.name: {
            point.trial: Estimate(value, value * 0.99, value * 1.01)
            for point in [*front, *([defaults] if defaults else []), *behind]
            for value in [point.measures[goal.name]]
        }
        for goal in goals
        if goal.learned
    }
    found = {
        device: recommend(front, defaults, goals, device, options, compared, behind)
        for device in CLIENTS
    }
    return {device: chosen for device, chosen in found.items() if chosen}


@pytest.fixture(scope="session")
def decide_again() -> Callable[[Summary, str], dict[str, int]]:
    """What the rule chooses for each device type with these lines of a study file."""

    def decide(summary: Summary, lines: str) -> dict[str, int]:
        tree = with_device_tables(tomllib.loads(lines))
        caps: dict[str, dict[str, float]] = tree.get("limits", {}).get("devices", {})

        def fitting(point: Point, device: str) -> int:
            """How many clients keep the limits, each by what it needs itself."""
            batch, epochs, most = point.calls or (1, 1, 1)
            count = 0
            for samples, clients in summary.samples[device]:
                parts = [min(batch, samples - n) for n in range(0, samples, batch)]
                calls = epochs * sum(-(-part // most) for part in parts)
                used = {
                    name: constant + call * calls + sample * samples
                    for name, (constant, call, sample) in point.devices[device].needs.items()
                }
                kept = all(used[name] <= cap for name, cap in caps.get(device, {}).items())
                count += clients * kept
            return count

        def within(point: Point) -> Point:
            """The point with what fits now, and its objectives over the devices that it fits."""
            found = {name: fitting(point, name) for name in point.devices}
            seen = {
                name: device.model_copy(update={"fitting": found[name]})
                for name, device in point.devices.items()
            }
            kept = {
                each.name: value
                for each in summary.objectives
                if (value := _over_fleet(point, each, found)) is not None
            }
            return point.model_copy(
                update={"devices": seen, "objectives": {**point.objectives, **kept}}
            )

        def trainable(point: Point) -> bool:
            """Whether enough of the fleet can train it."""
            clients = sum(device.fitting for device in point.devices.values())
            return clients >= summary.coverage * sum(CLIENTS.values()) - 1e-9

        points = sorted((within(each) for each in summary.stored), key=lambda each: each.trial)
        front = _front([each for each in points if trainable(each)], summary.objectives)
        own = next((p for p in points if summary.defaults and p.trial == 0), None)
        fits = own is not None and any(device.fitting for device in own.devices.values())
        options = DecisionSection.model_validate(tree.get("decision", {}))
        found = recommended(front, own if fits else None, summary.objectives, options)
        return {device: chosen.trial for device, chosen in found.items()}

    return decide


def _over_fleet(point: Point, objective: Objective, fitting: Mapping[str, int]) -> Estimate | None:
    """A cost over the device types on which it fits; None for what is learned."""
    costs = {n: d.costs[objective.name].value for n, d in point.devices.items()
             if fitting[n] and objective.name in d.costs}  # fmt: skip
    if not costs:
        return None
    value = (
        max(costs.values())
        if objective.worst_of_fleet
        else sum(fitting[n] * cost for n, cost in costs.items()) / sum(fitting[n] for n in costs)
    )
    return Estimate(value, value, value)


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
    memory = 90.0 + 23 * trial % 40  # unlike anything else, so that dominated trials need least
    rate = abs(np.log10(float(configuration["learning_rate"])) + 0.7)
    error = 0.025 + 0.4 / size + 0.09 * rate**2 + 0.12 / (epochs * clients) ** 0.5
    error = round((error + abs(rng.normal(0, 0.006))) * SAMPLES) / SAMPLES
    devices = {
        device: OnDevice(
            clients=count,
            fitting=count,
            costs={
                name: Estimate(value, 0.75 * value, 1.45 * value, {"clock": 0.33})
                for name, value in _costs(size, memory, epochs, clients, device).items()
            },
            slack={
                "memory_mib": memory / 160 - 1,
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
        runs=2 - (trial % 4 == 1),
        calls=(int(configuration["batch_size"]), epochs, 8),
        devices={name: _with_needs(seen, epochs) for name, seen in devices.items()},
    )


def _with_needs(seen: OnDevice, epochs: int) -> OnDevice:
    """Clients of a type have 12 or 36 samples; the costs are those of a client with 24, in 3 calls
    of ``train`` an epoch."""
    needs = {
        name: (0.5 * cost.value, 0.5 * cost.value / (3 * epochs), 0.0)
        if name in ("energy_j", "round_s")
        else (cost.value - 0.024 * (name == "storage_mib"), 0.0, 0.001 * (name == "storage_mib"))
        for name, cost in seen.costs.items()
        if cost and name in DeviceLimits.__dataclass_fields__
    }
    return seen.model_copy(update={"needs": needs})


def _costs(size: float, memory: float, epochs: int, clients: int, device: str) -> dict[str, float]:
    slow = SLOWNESS[device]
    return {
        "inference_ms": (0.05 + size / 160) * slow,
        "energy_j": (0.1 + size / 60) * epochs * clients / 30 * POWER[device] * slow * 1.5,
        "memory_mib": memory,
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
            confusion=[
                [hit if to == own else count - hit if to == 3 else 0 for to in range(4)]
                for own, (hit, count) in enumerate(zip(hits, [*actual[:3], hits[3]], strict=True))
            ],
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
