"""What a study can be tuned for: one table of measures, each with its unit and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer

from fieldtune.profiles.common.errors import RunFolderError, did_you_mean

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """A measure, and which way a study takes it.

    Attributes:
        name: as a study file and a trial's outcome have it.
        label: for people.
        unit: of its values: ``ms``, ``s``, ``j``, ``mib`` or ``bytes``, as names end in it;
            ``share`` for 0 to 1, shown in per cent; empty where there is none.
        direction: which values are better.
        learned: it is measured by training; False for a cost, which is predicted from a device's
            profile.
        worst_of_fleet: of a cost, whether the fleet's figure is that of the device type that is
            worst off, rather than the mean over the clients.
    """

    name: str
    label: str
    unit: str = ""
    direction: Direction = "minimize"
    learned: bool = True
    worst_of_fleet: bool = False

    @property
    def maximised(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def sign(self) -> float:
        """What turns its values into something to minimise: -1 or 1."""
        return -1.0 if self.maximised else 1.0

    @property
    def signed_name(self) -> str:
        """The name, with a leading ``-`` where it is maximised: how a run's files have it."""
        return f"-{self.name}" if self.maximised else self.name


def _more_is_better(name: str, label: str, unit: str = "share") -> Objective:
    return Objective(name, label, unit, direction="maximize")


def _cost(name: str, label: str, *, worst_of_fleet: bool = False) -> Objective:
    return Objective(
        name, label, name.rpartition("_")[2], learned=False, worst_of_fleet=worst_of_fleet
    )


MEASURES = {
    each.name: each
    for each in (
        Objective("error", "Error", "share"),
        Objective("worst_error", "Worst tenth's error", "share"),
        _more_is_better("accuracy", "Accuracy"),
        _more_is_better("macro_f1", "Macro F1"),
        _more_is_better("precision", "Precision"),
        _more_is_better("recall", "Recall"),
        _more_is_better("auc", "AUC"),
        Objective("loss", "Loss"),
        _more_is_better("metric", "Metric", unit=""),
        _cost("inference_ms", "Inference", worst_of_fleet=True),
        _cost("energy_j", "Energy"),
        _cost("memory_mib", "Training memory", worst_of_fleet=True),
        _cost("inference_memory_mib", "Inference memory", worst_of_fleet=True),
        _cost("storage_mib", "Storage", worst_of_fleet=True),
        _cost("round_s", "Round", worst_of_fleet=True),
        _cost("sent_bytes", "Sent"),
        _cost("received_bytes", "Received"),
    )
}
"""What an objective may name, by name."""

COST_MEASURES = tuple(name for name, each in MEASURES.items() if not each.learned)
"""Measures that are predicted from a device's profile."""


def parse_objective(text: str) -> Objective:
    """The objective of a study file's entry: a measure's name, or ``-name`` of a maximised one.

    Raises:
        ValueError: there is no such measure, or its direction is another one.
    """
    name = text.removeprefix("-")
    if name not in MEASURES:
        raise ValueError(
            f"has the unknown objective {text!r}{did_you_mean(name, MEASURES)}; "
            f"known are {', '.join(MEASURES)}"
        )
    found = MEASURES[name]
    if text != name and not found.maximised:
        raise ValueError(
            f"has {text!r}, which would maximise {name}, but {name} is always minimised: "
            f"write {name!r}"
        )
    return found


def wrong_direction(objective: Objective) -> RunFolderError:
    """The error of a run that took an objective the other way: it neither goes on nor is shown."""
    then, now = "maximised", "minimised"
    if objective.maximised:
        then, now = now, then
    return RunFolderError(
        f"this run was made by an earlier fieldtune, which {then} {objective.name}; it is {now} "
        "now: start the study anew in another folder with --out"
    )


def _stored(entry: str | Objective) -> Objective:
    if isinstance(entry, Objective):
        return entry
    name = entry.removeprefix("-")
    if name not in MEASURES:
        raise ValueError(f"{entry!r} is no measure")
    if entry != MEASURES[name].signed_name:
        raise wrong_direction(MEASURES[name])
    return MEASURES[name]


StoredObjective = Annotated[
    Objective,
    BeforeValidator(_stored),
    PlainSerializer(lambda objective: objective.signed_name, return_type=str),
]
"""An objective in a run's files: a leading ``-`` says that it is maximised.

So files from before direction belonged to the measure can be read, and none is read the wrong way.
"""
