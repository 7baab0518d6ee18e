"""One value of a device profile: number, 90 % interval, unit and source."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

Basis = Literal["measured", "fitted", "published", "estimated"]


class ProfileValue(BaseModel):
    """One value of a device profile and its 90 % interval.

    ``basis`` is ``measured`` (by the profile's author on a device of the type), ``fitted`` (by
    ``fieldtune profiles fit`` to the latencies that ``source`` names), ``published`` (in the work
    that ``source`` names) or ``estimated`` (by the reasoning that ``source`` gives).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    unit: str
    basis: Basis
    source: str

    @model_validator(mode="after")
    def _in_order(self) -> "ProfileValue":
        for name in ("low", "value", "high"):
            number = getattr(self, name)
            if not isfinite(number) or number < 0:
                raise PydanticCustomError(
                    "profile_value",
                    "{name} = {number} is not a finite number of at least 0",
                    {"name": name, "number": number},
                )
        if not self.low <= self.value <= self.high:
            raise PydanticCustomError(
                "profile_value",
                "value = {value} lies outside its interval, low = {low} to high = {high}; "
                "low <= value <= high must hold",
                {"value": self.value, "low": self.low, "high": self.high},
            )
        if not self.source.strip():
            raise PydanticCustomError(
                "profile_value", "source = '' is empty; name the publication or give the reasoning"
            )
        return self


@dataclass(frozen=True)
class ValueSpec:
    """Annotation of a profile's field: unit, meaning and bounds."""

    unit: str
    meaning: str
    above_zero: bool = True
    at_most: float | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Have pydantic check the value after validation."""
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, entry: ProfileValue | None) -> ProfileValue | None:
        if entry is None:
            return None
        if entry.unit != self.unit:
            raise PydanticCustomError(
                "profile_value",
                "unit = '{unit}' is not the unit of this value; state it in '{expected}'",
                {"unit": entry.unit, "expected": self.unit},
            )
        if self.above_zero and entry.low <= 0:
            raise PydanticCustomError(
                "profile_value", "low = {low} must be above 0 for this value", {"low": entry.low}
            )
        if self.at_most is not None and entry.high > self.at_most:
            raise PydanticCustomError(
                "profile_value",
                "high = {high} must be at most {at_most} for this value",
                {"high": entry.high, "at_most": self.at_most},
            )
        return entry
