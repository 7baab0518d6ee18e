"""What goes wrong in a simulated client's training, drawn at random but determined by the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fieldtune.client.contract.messages import Failure, TrainReport
from fieldtune.server.federation.exchange import Report
from fieldtune.server.study.fleet_options import FaultsSection

_STREAM = 0xFA17

Fault = Literal["dropout", "lost_upload", "out_of_memory"]
_DETAILS = {
    "dropout": "the device stopped in the middle of its work, as drawn by the simulation",
    "lost_upload": "the device's result did not arrive, as drawn by the simulation",
    "out_of_memory": "the device's memory did not suffice, as drawn by the simulation",
}


@dataclass(frozen=True)
class Fate:
    """What happens to one training on a client."""

    fault: Fault | None = None
    slower: float = 1.0
    """Factor of the computing time: above 1 where the device is throttled."""
    share: float = 1.0
    """Of the work that is done before the device drops out."""

    def worked(self, report: Report) -> Report:
        """The time and energy that the device really used, which count as usage."""
        factor = self.slower * self.share
        if factor == 1 and self.fault is None:
            return report
        changes: dict[str, object] = {
            "wall_s": None if report.wall_s is None else factor * report.wall_s,
            "energy_j": None if report.energy_j is None else factor * report.energy_j,
        }
        if self.slower > 1:
            changes["throttled"] = True
        if self.fault == "dropout" and isinstance(report, TrainReport):
            changes |= {"weights": None, "encoded": None, "residual": None}
        return report.model_copy(update=changes)

    def received(self, report: Report) -> Report:
        """What the coordinator gets, instead of what the device has done."""
        if self.fault is None or report.failure:
            return report
        kind: Failure = self.fault
        lost: dict[str, object] = {"failure": kind, "detail": _DETAILS[kind], "weights": None}
        if isinstance(report, TrainReport):
            lost["encoded"] = None
            if kind == "dropout":  # otherwise the device counts its update as sent
                lost["residual"] = None
        return report.model_copy(update=lost)


FINE = Fate()


def fate(options: FaultsSection | None, seed: int, number: int, client: int) -> Fate:
    """What happens to the training of a round on a client.

    Args:
        options: of the study; None: nothing.
        seed: of the training.
        number: of the round.
        client: its number.
    """
    if options is None:
        return FINE
    rng = np.random.default_rng([seed, number, client, _STREAM])
    at, share, hot = rng.random(3).tolist()
    slower = options.throttling_factor if hot < options.throttling else 1.0
    kinds: tuple[tuple[Fault, float], ...] = (
        ("dropout", options.dropout),
        ("lost_upload", options.lost_upload),
        ("out_of_memory", options.out_of_memory),
    )
    for kind, probability in kinds:
        if at < probability:
            return Fate(kind, slower, {"dropout": share, "out_of_memory": 0.0}.get(kind, 1.0))
        at -= probability
    return Fate(None, slower)
