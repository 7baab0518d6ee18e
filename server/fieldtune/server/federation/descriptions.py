"""Which descriptions of devices are plausible, and how much a single device may count.

A device's number of samples is its weight in averages and evaluations, and what its costs are
predicted from. It cannot be verified, so it is compared with the memory of the device's type and
with the other devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from statistics import median
from typing import TypeVar

from fieldtune.client.contract.messages import Description, EvaluateReport, TrainReport
from fieldtune.profiles.device.load import load_profile, profile_names
from fieldtune.profiles.host.detect import board_profiles
from fieldtune.server.federation.exchange import Report

MOST_SAMPLES = 100_000_000
"""The most samples of a device: one per second for three years."""
MOST_MEMORY_MIB = 2**24
"""16 TiB, more than any single training machine has."""
BOARD_MEMORY = 4
"""Boards of one type have up to this multiple of the memory in its profile."""
OUTLIER, MOST_TIMES = 100, 10
"""Multiples of the fleet's median number of samples: a device that describes more than the first is
left out; one that describes more than the second counts as that many."""
_FEWEST = 3
"""Devices from which a median says something."""

Key = TypeVar("Key")


def implausible(described: Description) -> str:
    """Why a device's description is implausible, as a sentence; empty where it is not."""
    bounds = (
        ("training samples", described.train_samples, MOST_SAMPLES),
        ("test samples", described.test_samples, MOST_SAMPLES),
        ("MiB of memory", described.memory_mib or 0.0, MOST_MEMORY_MIB),
    )
    for what, value, most in bounds:
        if value > most:
            return f"it describes itself with {value:.15g} {what}, and more than {most} are refused"
    samples = described.train_samples + described.test_samples
    data_mib = samples * 4 * prod(described.input_shape) / 2**20
    most_mib = BOARD_MEMORY * _board_memory_mib(described.profile)
    if data_mib > most_mib:
        return (
            f"its {samples} samples take {data_mib:.0f} MiB, and a {described.profile} has at most "
            f"{most_mib:.0f} MiB of memory"
        )
    return ""


def admitted(
    described: Iterable[Description], notes: Callable[[str], None]
) -> dict[int, Description]:
    """The clients that can take part, by number: those whose description is plausible.

    Args:
        described: the descriptions; of two with the same number the first counts.
        notes: prints a sentence about each client that is left out or may be of another type.
    """
    found: dict[int, Description] = {}
    for member in described:
        if why := implausible(member):
            notes(f"client {member.client} cannot take part: {why}")
        else:
            found.setdefault(member.client, member)
    for client, why in outliers(found).items():
        notes(f"client {client} cannot take part: {why}")
        del found[client]
    for client, member in found.items():
        if other := other_board(member):
            notes(f"client {client} {other}")
    return {client: found[client] for client in sorted(found)}


def _board_memory_mib(profile: str) -> float:
    """Of a device type of the catalogue; a device's text is not taken for the path of a file."""
    return load_profile(profile).memory_total_mib.high if profile in profile_names() else inf


def outliers(members: Mapping[Key, Description]) -> dict[Key, str]:
    """The devices that describe far more samples than the others, and why each is left out."""
    found: dict[Key, str] = {}
    for part, usual in (
        ("training", _median(members, "train")),
        ("test", _median(members, "test")),
    ):
        for key, member in members.items():
            samples = member.train_samples if part == "training" else member.test_samples
            if samples > OUTLIER * usual:
                found[key] = (
                    f"it describes {samples} {part} samples, more than {OUTLIER} times the fleet's "
                    f"median of {usual:g}: give it fewer"
                )
    return found


def other_meaning(members: Mapping[Key, Description]) -> dict[Key, str]:
    """The devices whose classes have other names, or whose values are scaled otherwise, than most.

    A device that gives its classes no names agrees with all.
    """
    found: dict[Key, str] = {}
    if names := Counter(member.labels for member in members.values() if member.labels):
        (usual, _), *_ = names.most_common(1)
        for key, member in members.items():
            if member.labels and member.labels != usual:
                found[key] = (
                    f"its classes are {_shown(member.labels)}, those of the others "
                    f"{_shown(usual)}; give labels in data.toml the same order on every device"
                )
    scalings = Counter(map(_scaling, members.values()))
    (scaling, _), *_ = scalings.most_common(1) or [((0.0, 1.0), 0)]
    for key, member in members.items():
        if key not in found and _scaling(member) != scaling:
            found[key] = (
                f"its values are {_formula(_scaling(member))}, those of the others "
                f"{_formula(scaling)}; set offset and scale in data.toml alike on every device"
            )
    return found


def _scaling(member: Description) -> tuple[float, float]:
    return member.offset or 0.0, member.scale or 1.0


def _formula(scaling: tuple[float, float]) -> str:
    return f"(value - {scaling[0]:g}) / {scaling[1]:g}"


def _shown(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return ", ".join(labels[:3]) + more


def other_board(described: Description) -> str:
    """How a device's type differs from what its firmware says, as a sentence; empty if it does not.

    A device without firmware that names the board cannot be compared.
    """
    if described.board is None:
        return ""
    known = board_profiles(described.board)
    if described.profile in known or not (known or board_profiles(None, described.profile)):
        return ""
    what = f"a {known[0]}" if known else "not in the catalogue"
    return (
        f"says that it is a {described.profile}, but its firmware says {described.board!r}, which "
        f"is {what}: its measurements may be counted for the wrong type"
    )


def _median(members: Mapping[Key, Description], part: str) -> float:
    """The median number of samples; infinite where there are too few devices to tell."""
    counts = [getattr(member, f"{part}_samples") for member in members.values()]
    return max(median(counts), 1) if len(counts) >= _FEWEST else inf


@dataclass(frozen=True)
class SampleCaps:
    """The most samples that a single device counts as."""

    train: float = inf
    test: float = inf

    @classmethod
    def of(cls, members: Sequence[Description]) -> SampleCaps:
        """Those of a fleet."""
        by_client = {member.client: member for member in members}
        return cls(*(MOST_TIMES * _median(by_client, part) for part in ("train", "test")))

    def over(self, member: Description) -> str:
        """What a device counts as, as a sentence; empty if it is below the caps."""
        found = [
            f"{samples} {part} samples count as {cap:g}"
            for part, samples, cap in (
                ("training", member.train_samples, self.train),
                ("test", member.test_samples, self.test),
            )
            if samples > cap
        ]
        return f"{' and '.join(found)}, {MOST_TIMES} times the fleet's median" if found else ""

    def apply(self, report: Report) -> Report:
        """The report as if of at most that many samples; its shares stay the same."""
        if isinstance(report, TrainReport):
            if report.samples <= self.train:
                return report
            return report.model_copy(update={"samples": int(self.train)})
        return report if report.samples <= self.test else _fewer(report, int(self.test))


def _fewer(report: EvaluateReport, samples: int) -> EvaluateReport:
    """An evaluation scaled down to so many samples; its counts still add up.

    Its confusion matrix is left out.
    """
    scale = samples / report.samples

    def scaled(counts: Sequence[int]) -> tuple[int, ...]:
        ends = [int(sum(counts[: index + 1]) * scale) for index in range(len(counts))]
        return tuple(end - begin for begin, end in zip([0, *ends], ends, strict=False))

    predicted, actual = scaled(report.predicted), scaled(report.actual)
    hits = (int(hit * scale) for hit in report.hits)
    return report.model_copy(
        update={
            "samples": sum(actual) if actual else samples,
            "loss_sum": report.loss_sum * scale,
            "hits": tuple(map(min, hits, predicted, actual)),
            "predicted": predicted,
            "actual": actual,
            "confusion": None,
            "weight": None if report.weight is None else report.weight * scale,
        }
    )
