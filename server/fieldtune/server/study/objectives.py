"""What a study can be tuned for: one table of measures, each with its unit and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer

from fieldtune.profiles.common.errors import RunFolderError, did_you_mean

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """A measure and its direction.

    Attributes:
        name: in study files and outcomes.
        label: for people.
        unit: ``ms``, ``s``, ``h``, ``j``, ``mj``, ``mib`` or ``bytes``, the suffix of the name;
            ``share`` for values in 0..1, shown in per cent; empty where there is none.
        direction: which values are better.
        learned: whether it is measured by training; costs are predicted from device profiles.
        worst_of_fleet: how a cost is aggregated over the fleet: the maximum over the device types
            if True, else the mean over the clients.
        of_device: whether it differs between devices; epsilon is one of the whole training.
    """

    name: str
    label: str
    unit: str = ""
    direction: Direction = "minimize"
    learned: bool = True
    worst_of_fleet: bool = False
    of_device: bool = True

    @property
    def phrase(self) -> str:
        """The label within a sentence: ``training energy``, ``macro F1``, ``AUC``."""
        return self.label if self.label[:2].isupper() else self.label[:1].lower() + self.label[1:]

    @property
    def maximised(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def sign(self) -> float:
        """Factor that makes its values to be minimised: -1 or 1."""
        return -1.0 if self.maximised else 1.0

    @property
    def signed_name(self) -> str:
        """The name with a leading ``-`` where it is maximised, as in the files of a run folder."""
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
        Objective("time_h", "Time of training", "h"),
        Objective("time_to_error_h", "Time to the error", "h"),
        _cost("inference_ms", "Inference", worst_of_fleet=True),
        _cost("inference_mj", "Inference energy", worst_of_fleet=True),
        _cost("energy_j", "Training energy"),
        _cost("memory_mib", "Training memory", worst_of_fleet=True),
        _cost("inference_memory_mib", "Inference memory", worst_of_fleet=True),
        _cost("storage_mib", "Storage", worst_of_fleet=True),
        _cost("round_s", "Round", worst_of_fleet=True),
        _cost("sent_bytes", "Upload"),
        _cost("received_bytes", "Download"),
        Objective("epsilon", "Epsilon", learned=False, of_device=False),
    )
}
"""All possible objectives by name."""

COST_MEASURES = tuple(
    name for name, each in MEASURES.items() if not each.learned and each.of_device
)
"""Names of the measures that are predicted from device profiles."""


def parse_objective(text: str) -> Objective:
    """The objective of an entry in a study file: ``name``, or ``-name`` if it is maximised.

    Raises:
        ValueError: there is no such measure, or its direction is the other one.
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
    """The error for a run folder in which an objective has the opposite direction."""
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
        raise ValueError(f"{entry!r} is not a measure")
    if entry != MEASURES[name].signed_name:
        raise wrong_direction(MEASURES[name])
    return MEASURES[name]


StoredObjective = Annotated[
    Objective,
    BeforeValidator(_stored),
    PlainSerializer(lambda objective: objective.signed_name, return_type=str),
]
"""An objective as stored in a run folder: a leading ``-`` means that it is maximised.

Storing the direction allows to refuse files of earlier versions in which it was the opposite.
"""
