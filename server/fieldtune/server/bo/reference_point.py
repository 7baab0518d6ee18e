"""Front and reference point of a study, and the region in which improvement is sought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import moocore
import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.ehvi import Boxes

Array = NDArray[np.float64]

_SPARE = 0.1
"""The reference lies beyond what it is taken from by this share of its distance to the best."""
_ORDINARY = 0.35
"""The quantile of the evenly spread first trials beyond which a learned objective is worthless."""
_OF_FRONT = 0.75
"""The quantile of the front up to which it is not."""


@dataclass(frozen=True)
class TargetRegion:
    """A region in which improvement is sought.

    Attributes:
        boxes: of what no trial dominates there.
        most: what known objectives may be ``[m]``; infinite for those that are learned.
        room: the volume between the best known values and the region's upper end, dominated or not.
    """

    boxes: Boxes
    most: Array
    room: float


@dataclass(frozen=True)
class FrontState:
    """Front and reference point of a study.

    Attributes:
        values: objectives ``[n, m]`` of all that is feasible and was tried or is in flight.
        reference: what an improvement must be better than ``[m]``.
        best: the least value of any trial or formula ``[m]``; the reference where there is no
            trial.
    """

    values: Array
    reference: Array
    best: Array

    @classmethod
    def of(
        cls,
        everything: Array,
        feasible: NDArray[np.bool_],
        costs: Array,
        first: Sequence[Array | None],
    ) -> FrontState:
        """From trials measured and in flight.

        Args:
            everything: their objectives ``[n, m]``, as modelled.
            feasible: which of them count ``[n]``.
            costs: formulas of what the limits allow ``[c, m]``; NaN where there is none.
            first: results of the evenly spread first trials, of each learned objective; None of a
                known one.
        """
        values = everything[feasible & np.isfinite(everything).all(axis=1)]
        if not len(values):
            # No front yet: any volume is as good as any other below what the models expect.
            reference = np.nan_to_num(everything).max(axis=0, initial=0.0) + 1.0
            return cls(values, reference, reference)
        best = np.fmin(values.min(axis=0), costs.min(axis=0, initial=np.inf))
        return cls(values, _reference(values, costs, first), best)

    @cached_property
    def undominated(self) -> Boxes:
        """The boxes below the reference that no trial dominates."""
        return Boxes.beyond(self.values, self.reference)

    @property
    def covered(self) -> float:
        """The hypervolume of the front."""
        if not len(self.values):
            return 0.0
        return float(moocore.hypervolume(self.values, ref=self.reference))

    def no_worse_than(self, values: Array, most: Array) -> TargetRegion | None:
        """The goal to be better than some objectives, and in none worse.

        To be as good in a known objective is enough, and often all that can be: a model that is
        trained in another way is as fast as before. So there the volume reaches beyond.

        Args:
            values: the objectives ``[m]``, as modelled.
            most: their formulas ``[m]``; infinite where there is none.

        Returns:
            None where no known value lies there, or there is no front yet.
        """
        beyond = values + _SPARE * (self.reference - self.best)
        reference = np.minimum(np.where(np.isfinite(most), beyond, values), self.reference)
        room = float(np.prod(np.maximum(reference - self.best, 0.0)))
        return TargetRegion(Boxes.beyond(self.values, reference), most, room) if room > 0 else None


def _reference(values: Array, costs: Array, first: Sequence[Array | None]) -> Array:
    """The point that an improvement must be better than.

    Of a known objective it is the largest value of the feasible set: a reference that followed
    the front would shrink with it, and the search would never leave a cheap corner. Of a
    learned one it is what a third of the evenly spread first trials reached: the cheapest
    configuration is on the front however badly it predicts, and an error of 90 % is worth
    nothing. Or it is what three quarters of the front reach, if that is worse: where good
    configurations are rare, most of the front is none of the best third of the first trials. Where
    nothing is known, the front's own extent counts too.
    """
    front = values[moocore.is_nondominated(values, keep_weakly=False)]
    low, high = front.min(axis=0), front.max(axis=0)
    reference = np.empty(len(low))
    grey = any(told is None for told in first)
    for i, told in enumerate(first):
        if told is None:
            reference[i] = max(float(costs[:, i].max(initial=-np.inf)), high[i])
            continue
        told = told[np.isfinite(told)]
        ordinary = float(np.quantile(told, _ORDINARY)) if len(told) else high[i]
        extent_of_front = float(np.quantile(front[:, i], _OF_FRONT)) if grey else high[i]
        reference[i] = max(ordinary, extent_of_front)
    extent = reference - low
    spare = np.where(extent > 0, extent, np.maximum(np.abs(low), 1e-9))
    return np.asarray(reference + _SPARE * spare)
