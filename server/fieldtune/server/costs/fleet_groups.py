"""A fleet in groups of clients with the same costs, with their samples and limits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.costmodel.cost import missing_values
from fieldtune.profiles.costmodel.limits import DeviceLimits, default_limits
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.costs.epsilon import Rounds
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.private_averaging import private_averaging
from fieldtune.server.study.settings import asked_per_round, server_settings
from fieldtune.server.study.space import Configuration

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Clients of one device type with the same number of training samples."""

    profile: str
    samples: int
    clients: tuple[int, ...]


class FleetGroups:
    """A fleet's clients by device type and number of samples.

    Args:
        study: its limits and rounds.
        members: the clients.
        profiles: of all device types of the fleet. For a type without members, costs are predicted
            for a client with the members' mean number of samples, and limits are not checked.

    Raises:
        StudyError: an objective or a limit cannot be predicted from a device type's profile.
    """

    def __init__(
        self,
        study: StudyConfig,
        members: Sequence[Description],
        profiles: Mapping[str, DeviceProfile],
    ) -> None:
        self.size, self.rounds = len(members), study.study.rounds
        self.server = study.server
        self.types = list(profiles)
        self.limits: dict[str, DeviceLimits] = {
            name: study.limits.for_device(name, default_limits(profile))
            for name, profile in profiles.items()
        }
        _check_predictable(study, profiles, self.limits)
        self.limit_names = sorted(
            {name for limits in self.limits.values() for name, _ in limits.items()}
        )
        self.epsilon_limit, self.delta = study.limits.epsilon, study.server.dp_delta
        self.needed = math.ceil(study.limits.coverage * self.size - 1e-9)
        """Number of clients that must be able to take part."""
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for member in sorted(members, key=lambda member: member.client):
            groups[member.profile, member.train_samples].append(member.client)
        self.clients_of = {
            name: sum(member.profile == name for member in members) for name in profiles
        }
        mean = sum(member.train_samples for member in members) / max(self.size, 1)
        for name, size in self.clients_of.items():
            if not size:
                groups[name, math.ceil(mean)] = []
        self.groups = [Group(*key, tuple(clients)) for key, clients in sorted(groups.items())]
        self.mean_samples = {
            name: sum(group.samples * len(group.clients) for group in self.groups
                      if group.profile == name) / size if size else mean
            for name, size in self.clients_of.items()
        }  # fmt: skip

    def fitting(self, name: str, fits: NDArray[np.bool_]) -> int:
        """Number of a device type's clients in the groups that ``fits`` names ``[group]``."""
        own = self.group_types == self.types.index(name)
        return int(self.group_clients[own & fits].sum())

    @cached_property
    def group_types(self) -> NDArray[np.int_]:
        """Index of the device type ``[group]``."""
        return np.array([self.types.index(group.profile) for group in self.groups])

    @cached_property
    def is_of_type(self) -> Array:
        """1 where a group is of a device type, else 0 ``[group, device type]``."""
        return np.eye(len(self.types))[self.group_types]

    @cached_property
    def group_samples(self) -> Array:
        """Training samples of a client ``[group]``."""
        return np.array([group.samples for group in self.groups], float)

    @cached_property
    def group_clients(self) -> NDArray[np.int_]:
        """Number of clients ``[group]``."""
        return np.array([len(group.clients) for group in self.groups])

    @cached_property
    def type_samples(self) -> Array:
        """Mean training samples of a client ``[device type]``."""
        return np.array([self.mean_samples[name] for name in self.types])

    @cached_property
    def caps(self) -> Array:
        """Caps ``[limit, group]``; infinite where a limit is not set."""
        caps = [
            [getattr(self.limits[group.profile], name) or np.inf for group in self.groups]
            for name in self.limit_names
        ]
        return np.array(caps).reshape(len(self.limit_names), len(self.groups))

    def rounds_a_client(self, configuration: Configuration) -> float:
        """Expected number of rounds of a trial in which one client takes part."""
        per_round = min(asked_per_round(configuration), self.size)
        return self.rounds * per_round / self.size

    def private_rounds(self, configuration: Configuration, participants: int) -> Rounds | None:
        """The rounds of a training as differential privacy counts them; None without noise."""
        private = private_averaging(configuration)
        if private is None:
            return None
        expected = int(server_settings(configuration)["clients_per_round"])
        return Rounds(min(1.0, expected / max(participants, 1)), private.noise, self.rounds)


def _check_predictable(
    study: StudyConfig,
    profiles: Mapping[str, DeviceProfile],
    limits: Mapping[str, DeviceLimits],
) -> None:
    """Refuse objectives, limits and budgets that cannot be predicted from the profiles."""
    for name, profile in sorted(profiles.items()):
        asked = [(f"the objective {each.name}", each.name) for each in study.study.objectives]
        asked += [(f"the limit {limit} = {cap:g}", limit) for limit, cap in limits[name].items()]
        if study.study.energy_j is not None:
            asked.append((f"the budget energy_j = {study.study.energy_j:g}", "energy_j"))
        for what, measure in asked:
            if measure == "epsilon":  # not of a device
                continue
            if missing := missing_values(profile, measure):
                raise StudyError(
                    f"{what} cannot be predicted on {name!r}: its profile does not tell "
                    f"{', '.join(missing)}; add what you know to the profile, or drop the "
                    f"{what.split()[1]}"
                )
