"""Devices whose reports are refused: each is named once, counted, and in the end left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

IN_A_ROW = 3
"""Refused reports of one kind of message, one after the other, after which a device sits out."""


@dataclass(frozen=True)
class Refused:
    """What was refused of one device."""

    count: int = 0
    """Reports, over all studies."""
    in_a_row: Mapping[str, int] = field(default_factory=dict)
    """Kind of message -> refused reports since the last one that was not."""
    why: str = ""
    """The latest reason, as a sentence."""

    @property
    def sits_out(self) -> bool:
        """Whether the device gets no requests."""
        return max(self.in_a_row.values(), default=0) >= IN_A_ROW


class RefusalStore(Protocol):
    """Keeps what was refused, by the device's name."""

    def refused(self) -> Mapping[str, Refused]:
        """What is kept."""

    def keep_refused(self, name: str, refused: Refused) -> None:
        """Replace what is kept of a device."""


class InMemoryRefusals:
    """A store for a simulated fleet, which keeps nothing beyond the session."""

    def __init__(self) -> None:
        self._kept: dict[str, Refused] = {}

    def refused(self) -> Mapping[str, Refused]:
        """What is kept."""
        return self._kept

    def keep_refused(self, name: str, refused: Refused) -> None:
        """Replace what is kept of a device."""
        self._kept[name] = refused


class Refusals:
    """Counts the refused reports of a session.

    Args:
        names: client -> the device's name. Only devices with a name sit out: simulated clients,
            which have none, are asked in any case, so that a study does not depend on the order
            in which its trials are answered.
        notes: prints a sentence: one for each device and reason, and one when it sits out.
        store: of earlier studies.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        notes: Callable[[str], None],
        store: RefusalStore | None = None,
    ) -> None:
        self._names, self._notes, self._store = names, notes, store or InMemoryRefusals()
        self._noted: set[tuple[int, str]] = set()
        self._kept = dict(self._store.refused())
        self._by_trial: dict[int, dict[str, Counter[str]]] = defaultdict(
            lambda: defaultdict(Counter)
        )

    def name(self, client: int) -> str:
        """How a client is called."""
        return self._names.get(client, f"client {client}")

    def note(
        self, client: int, trial: int, round: int, reason: str, sentence: str, count: int = 1
    ) -> None:
        """Count something about a report, and name the device where it is the first time."""
        name = self.name(client)
        self._by_trial[trial][name][reason] += count
        if (client, reason) not in self._noted:
            self._noted.add((client, reason))
            self._notes(f"{name}, trial {trial} round {round}: {sentence}")

    def refuse(
        self, client: int, trial: int, round: int, message: str, reason: str, sentence: str
    ) -> None:
        """Count a refused report.

        Args:
            client: that sent it.
            trial: of the report.
            round: of the report.
            message: its kind, ``train`` or ``evaluate``.
            reason: a word or two; the device is named once for each.
            sentence: about it, that follows the device's name.
        """
        said = f"report rejected as implausible (said once): {sentence}"
        self.note(client, trial, round, reason, said)
        if (name := self._names.get(client)) is None:
            return
        before = self._kept.get(name, Refused())
        now = Refused(
            before.count + 1,
            {**before.in_a_row, message: before.in_a_row.get(message, 0) + 1},
            sentence,
        )
        self._keep(name, now)
        if now.sits_out and not before.sits_out:
            self._notes(
                f"{name} was refused {IN_A_ROW} times in a row: it sits out until 'fieldtune "
                "coordinator readmit' lets it in again"
            )

    def accept(self, client: int, message: str) -> None:
        """Note that a report was not refused."""
        name = self.name(client)
        before = self._kept.get(name)
        if before and before.in_a_row.get(message) and not before.sits_out:
            self._keep(name, replace(before, in_a_row={**before.in_a_row, message: 0}))

    def sits_out(self, client: int) -> bool:
        """Whether a client gets no requests; one that was let in again is asked again."""
        name = self.name(client)
        if (kept := self._kept.get(name)) is None or not kept.sits_out:
            return False
        self._kept[name] = self._store.refused().get(name, kept)
        return self._kept[name].sits_out

    def in_trial(self, trial: int) -> dict[str, dict[str, int]]:
        """Device -> reason -> how often in a trial, in this session."""
        found = self._by_trial.get(trial, {})
        return {name: dict(sorted(found[name].items())) for name in sorted(found)}

    def restore(self, trial: int, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Count what an earlier session had counted in a trial that is resumed."""
        for name, reasons in counts.items():
            self._by_trial[trial][name].update(reasons)

    def _keep(self, name: str, refused: Refused) -> None:
        self._kept[name] = refused
        self._store.keep_refused(name, refused)
