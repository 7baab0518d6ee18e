"""From a configuration and its artefact to what it costs on every device type of the fleet."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import NONE, Corrections, corrected
from fieldtune.profiles.costmodel.cost import Cost, Workload, call_ms, predict, untold
from fieldtune.profiles.costmodel.limits import DeviceLimits, default_limits, slack
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.outcomes.trial import DeviceForecast, Forecast
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.settings import client_settings, server_settings
from fieldtune.server.study.space import Configuration

WORST_OF_FLEET = ("inference_ms", "memory_mib", "inference_memory_mib", "storage_mib", "round_s")
"""Measures that count on the device type that is worst off; the others are means over the fleet."""


def calls_per_round(samples: int, batch_size: int, local_epochs: int, micro_batch: int) -> int:
    """How often a client calls the artefact's train signature in one round."""
    full, rest = divmod(samples, batch_size)
    calls = full * math.ceil(batch_size / micro_batch) + math.ceil(rest / micro_batch)
    return local_epochs * calls


@dataclass(frozen=True)
class Kind:
    """Clients of one device type with equally many training samples."""

    profile: str
    samples: int
    clients: tuple[int, ...]


class Forecaster:
    """Predicts what configurations cost on a fleet.

    Args:
        study: its limits and rounds.
        members: the fleet.
        profiles: each of the fleet's device types; one that no member is of is predicted for a
            device with as many samples as the members have on average, and judges nothing.

    Attributes:
        kinds: clients that cost the same.
        limits: of each device type.
        sizes: clients of each device type.
        mean_samples: training samples of a client of each device type.
        corrections: of each device type that has reported, with which limits are judged.

    Raises:
        StudyError: an objective or a limit needs what a device type's profile does not tell.
    """

    def __init__(
        self,
        study: StudyConfig,
        members: Sequence[Description],
        profiles: Mapping[str, DeviceProfile],
    ) -> None:
        self._study = study
        self._profiles = profiles
        self.limits: dict[str, DeviceLimits] = {
            name: study.limits.for_device(name, default_limits(profile))
            for name, profile in profiles.items()
        }
        _check_told(study, profiles, self.limits)
        self.corrections: Mapping[str, Corrections] = {}
        self._work: dict[str, dict[str, Work]] = {}
        self.limit_names = sorted(
            {name for limits in self.limits.values() for name, _ in limits.items()}
        )
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for member in sorted(members, key=lambda member: member.client):
            groups[member.profile, member.train_samples].append(member.client)
        self._fleet_size = len(members)
        self.sizes = {name: sum(member.profile == name for member in members) for name in profiles}
        mean = sum(member.train_samples for member in members) / max(len(members), 1)
        for name, size in self.sizes.items():
            if not size:
                groups[name, math.ceil(mean)] = []
        self.kinds = [Kind(*key, tuple(clients)) for key, clients in sorted(groups.items())]
        self.mean_samples = {
            name: sum(kind.samples * len(kind.clients) for kind in self.kinds
                      if kind.profile == name) / size if size else mean
            for name, size in self.sizes.items()
        }  # fmt: skip

    def correct(self, corrections: Mapping[str, Corrections]) -> None:
        """From now on judge limits with these corrections, by device type, and no others."""
        self.corrections = corrections

    def forecast(self, configuration: Configuration, manifest: Manifest) -> Forecast:
        """Predicted cost on each device type, who can take part, and the constraints.

        Costs are those that the profiles predict; limits are judged with the corrections.
        A constraint's value is that of the client at the fleet's coverage: with coverage 0.9, the
        violation that 90 % of the clients stay at or below. So it is at most 0 just where the
        limit leaves enough of the fleet, and says by what share it is missed otherwise.
        """
        violations: dict[str, list[tuple[float, int]]] = defaultdict(list)
        participants: list[int] = []
        fitting: Counter[str] = Counter()
        worst: dict[str, dict[str, float]] = defaultdict(dict)
        for kind in self.kinds:
            cost = self._cost(kind.profile, kind.samples, configuration, manifest)
            seen = corrected(cost, self.corrections.get(kind.profile, NONE))
            gaps = slack(seen, self.limits[kind.profile])
            for limit in self.limit_names:
                # Where a limit is not set, a client is as far from it as can be.
                violations[limit].append((gaps.get(limit, -1.0), len(kind.clients)))
            for limit, gap in gaps.items():
                known = worst[kind.profile].get(limit, -math.inf)
                worst[kind.profile][limit] = max(known, gap)
            largest = max(gaps.values(), default=-1.0)
            violations["coverage"].append((largest, len(kind.clients)))
            if largest <= 0:
                participants += kind.clients
                fitting[kind.profile] += len(kind.clients)
        return Forecast(
            devices={
                name: DeviceForecast(
                    clients=size,
                    fitting=fitting[name],
                    cost=self._cost(name, self.mean_samples[name], configuration, manifest),
                    slack=worst[name],
                    corrections=self.corrections.get(name, NONE),
                )
                for name, size in sorted(self.sizes.items())
            },
            participants=tuple(sorted(participants)),
            constraints={
                limit: self.at_coverage(violations[limit]) for limit in sorted(violations)
            },
        )

    def expected(self, configuration: Configuration, manifest: Manifest) -> dict[int, Expected]:
        """What each client will report, as the profiles alone predict it."""
        work, found = self._work_of(manifest), dict[int, Expected]()
        for kind in self.kinds:
            cost = self._cost(kind.profile, kind.samples, configuration, manifest)
            evaluate_ms = call_ms(self._profiles[kind.profile], work["evaluate"])
            watts = self._profiles[kind.profile].loaded_w
            expected = Expected(
                kind.profile,
                manifest.micro_batch,
                cost.step_ms,
                evaluate_ms,
                cost.memory_mib,
                None if watts is None else Estimate(watts.value, watts.low, watts.high),
            )
            found |= dict.fromkeys(kind.clients, expected)
        return found

    def deadline_s(self, profile: str) -> float | None:
        """Seconds that a round may take a device of this type."""
        return self.limits[profile].round_s

    def _work_of(self, manifest: Manifest) -> dict[str, Work]:
        """The manifest's work, read once: a forecast asks for it many times."""
        key = manifest.artefact_sha256
        if key not in self._work:
            self._work[key] = {name: Work.from_json(each) for name, each in manifest.work.items()}
        return self._work[key]

    def at_coverage(self, gaps: Sequence[tuple[float, int]]) -> float:
        """The gap at or below which the fleet's coverage stays; gaps with their clients."""
        reached = 0
        for gap, clients in sorted(gaps):
            reached += clients
            if reached >= self.needed:
                return gap
        raise AssertionError("coverage is at most 1")

    @property
    def needed(self) -> int:
        """Clients that must be able to take part."""
        return math.ceil(self._study.limits.coverage * self._fleet_size - 1e-9)

    def rounds(self, configuration: Configuration) -> float:
        """Rounds of a trial that one device takes part in, in expectation."""
        per_round = min(int(server_settings(configuration)["clients_per_round"]), self._fleet_size)
        return self._study.study.rounds * per_round / self._fleet_size

    def cost(
        self, profile: str, manifest: Manifest, *, calls: float, rounds: float, samples: float
    ) -> Cost:
        """What an artefact costs on a device type, as its profile predicts.

        Args:
            profile: the device type.
            manifest: of the artefact.
            calls: of the train signature in one round.
            rounds: that the device takes part in.
            samples: that the client holds.
        """
        work = self._work_of(manifest)
        sample_bytes = 4 * math.prod(manifest.input_shape) + 4
        return predict(
            self._profiles[profile],
            Workload(
                infer=work["infer"],
                step=work["train"],
                evaluate=work["evaluate"],
                steps_per_round=calls,
                evaluations_per_round=0.0,  # a message of its own, after the last round
                rounds=rounds,
                artefact_bytes=manifest.artefact_bytes,
                model_bytes=manifest.model_bytes,
                weight_bytes=4 * sum(math.prod(spec.shape) for spec in manifest.weights),
                train_arena_bytes=manifest.train_arena_bytes,
                infer_arena_bytes=manifest.infer_arena_bytes,
                data_bytes=int(samples * sample_bytes),
            ),
        )

    def _cost(
        self, profile: str, samples: float, configuration: Configuration, manifest: Manifest
    ) -> Cost:
        client = client_settings(configuration)
        calls = calls_per_round(
            math.ceil(samples),
            int(client["batch_size"]),
            int(client["local_epochs"]),
            manifest.micro_batch,
        )
        rounds = self.rounds(configuration)
        return self.cost(profile, manifest, calls=calls, rounds=rounds, samples=samples)


def _check_told(
    study: StudyConfig,
    profiles: Mapping[str, DeviceProfile],
    limits: Mapping[str, DeviceLimits],
) -> None:
    """Refuse a study that asks for what a profile does not tell: nothing is guessed."""
    for name, profile in sorted(profiles.items()):
        asked = [(f"the objective {objective.removeprefix('-')}", objective.removeprefix("-"))
                 for objective in study.study.objectives]  # fmt: skip
        asked += [(f"the limit {limit} = {cap:g}", limit) for limit, cap in limits[name].items()]
        if study.study.energy_j is not None:
            asked.append((f"the budget energy_j = {study.study.energy_j:g}", "energy_j"))
        for what, measure in asked:
            if missing := untold(profile, measure):
                raise StudyError(
                    f"{what} cannot be predicted on {name!r}: its profile does not tell "
                    f"{', '.join(missing)}; add what you know to the profile, or drop the "
                    f"{what.split()[1]}"
                )


def fleet_measure(forecast: Forecast, name: str) -> float:
    """A cost of the whole fleet as the profiles predict it.

    The worst of its device types, or the mean over its clients; infinite where none takes part.
    """
    return over_fleet(
        name,
        [
            (getattr(device.cost, name).value, device.fitting)
            for device in forecast.devices.values()
            if device.fitting
        ],
    )


def over_fleet(name: str, values: Sequence[tuple[float, int]]) -> float:
    """A cost of the whole fleet, from that of each device type and its number of clients."""
    if not values:
        return math.inf
    if name in WORST_OF_FLEET:
        return max(value for value, _ in values)
    return sum(value * clients for value, clients in values) / sum(count for _, count in values)
