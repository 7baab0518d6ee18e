"""What is wrong with a deployed fleet, in sentences: drift, devices unlike the others, faults."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fieldtune.client.contract.deployment import Card, StatusReport
from fieldtune.profiles.common.shares import unlike_others, wilson
from fieldtune.server.results.run_folder import study_file_of

LOW_DISK_MIB = 100.0
LOW_MEMORY_MIB = 30.0


@dataclass(frozen=True)
class FleetHealth:
    """What is known of a fleet.

    Args:
        statuses: name -> what each device last said.
        cards: SHA-256 -> card of a deployed model, and the folder of its run.
    """

    statuses: Mapping[str, StatusReport]
    cards: Mapping[str, tuple[Card, str]]

    def card(self, name: str) -> Card | None:
        """Of the model that a device runs; None where this coordinator does not know it."""
        return self._deployed(name)[0]

    def run(self, name: str) -> str:
        """The folder of the run that the model of a device comes from; empty if not known."""
        return self._deployed(name)[1]

    def _deployed(self, name: str) -> tuple[Card | None, str]:
        status = self.statuses.get(name)
        return self.cards.get(status.runs or "", (None, "")) if status else (None, "")

    def drifted(self, name: str) -> bool:
        """Whether a device's error is surely above the interval that its model's card states."""
        status, card = self.statuses.get(name), self.card(name)
        if status is None or status.error is None or card is None or card.error_high is None:
            return False
        return wilson(status.error, status.samples)[0] > card.error_high

    def outlier(self, name: str) -> bool:
        """Whether a device's error is surely above that of its fleet: of the same model's median.

        A device whose labels are shifted is one; drift of all devices alike is none.
        """
        return name in self._outliers

    @cached_property
    def _outliers(self) -> frozenset[str]:
        alike: dict[str | None, dict[str, tuple[float, int]]] = {}
        for name, each in self.statuses.items():
            if each.error is not None:
                alike.setdefault(each.runs, {})[name] = each.error, each.samples
        return frozenset(name for errors in alike.values() for name in unlike_others(errors))

    def problems(self, name: str) -> list[str]:
        """What is wrong with a device, each as a sentence about it."""
        status, card = self.statuses[name], self.card(name)
        found = []
        if self.drifted(name) and status.error is not None and card is not None:
            samples = f"{status.judged_on or ''} samples".lstrip()
            found.append(
                f"error {_interval(status.error, status.samples)} on {status.samples} "
                f"{samples}, its card says {_percent(card.error or 0)} "
                f"({_percent(card.error_low or 0)} to {_percent(card.error_high or 0)})"
            )
        if self.outlier(name) and status.error is not None:
            found.append(
                f"unlike the others: its error is {_interval(status.error, status.samples)}; check "
                "the labels and the sensor there"
            )
        if status.not_judged:
            found.append(f"its model cannot be judged: {status.not_judged}")
        if status.throttling:
            found.append(f"throttled now: {', '.join(status.throttling)}")
        if status.disk_free_mib is not None and status.disk_free_mib < LOW_DISK_MIB:
            found.append(f"only {status.disk_free_mib:.0f} MiB of disk are free")
        if status.memory_free_mib is not None and status.memory_free_mib < LOW_MEMORY_MIB:
            found.append(f"only {status.memory_free_mib:.0f} MiB of memory are free")
        return found

    def retune(self, coordinator: Path, among: Iterable[str] | None = None) -> list[str]:
        """A command for each run whose model has drifted on devices that are no outliers.

        Where one device alone is unlike the others, another model helps nobody.
        """
        considered = self.statuses if among is None else among
        names = [n for n in considered if self.drifted(n) and not self.outlier(n)]
        runs = {self.run(name) for name in names} - {""}
        return [retune_command(Path(run), coordinator) for run in sorted(runs)]


def retune_command(run: Path, coordinator: Path) -> str:
    """The command that tunes a run's study again on the devices, from what the run has learned."""
    words = (
        "fieldtune", "tune", study_file_of(run), "--superlink", coordinator,
        "--warm-start", run, "--out", next_run(run),
    )  # fmt: skip
    return shlex.join(map(str, words))


def next_run(run: Path) -> Path:
    """A folder beside the run that does not exist yet: ``home-2``, ``home-3``, ..."""
    base, _, number = run.name.rpartition("-")
    stem, count = (base, int(number)) if base and number.isdigit() else (run.name, 1)
    while True:
        count += 1
        if not (found := run.with_name(f"{stem}-{count}")).exists():
            return found


def _interval(share: float, samples: int) -> str:
    low, high = wilson(share, samples)
    return f"{_percent(share)} ({_percent(low)} to {_percent(high)})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
