"""What a device type can do: a profile of figures, each with its interval, unit and source.

A profile never holds a bare point. Published sources disagree (a Raspberry Pi 4B is 1.8 or 3.4
times a 3B+, depending on whom one asks), so a figure states how far it may be off and where it is
from, and everything predicted from it carries that interval on.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

Basis = Literal["measured", "published", "estimated"]


class Figure(BaseModel):
    """One figure of a device: a value and the interval that it surely lies in.

    ``basis`` says how it is known: ``measured`` by whoever wrote the profile on a device of the
    type, ``published`` in the work that ``source`` names, or ``estimated`` by the reasoning that
    ``source`` gives.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    unit: str
    basis: Basis
    source: str

    @model_validator(mode="after")
    def _in_order(self) -> "Figure":
        for name in ("low", "value", "high"):
            number = getattr(self, name)
            if not isfinite(number) or number < 0:
                raise PydanticCustomError(
                    "figure",
                    "{name} = {number} is not a finite figure of at least 0",
                    {"name": name, "number": number},
                )
        if not self.low <= self.value <= self.high:
            raise PydanticCustomError(
                "figure",
                "value = {value} lies outside its interval, low = {low} to high = {high}; "
                "low <= value <= high must hold",
                {"value": self.value, "low": self.low, "high": self.high},
            )
        if not self.source.strip():
            raise PydanticCustomError(
                "figure", "source = '' names nothing; name the publication or give the reasoning"
            )
        return self


@dataclass(frozen=True)
class In:
    """Annotation of a profile's field: the unit it is in, what it says, and its bounds."""

    unit: str
    meaning: str
    above_zero: bool = True
    at_most: float | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let pydantic check the figure once it is built."""
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, figure: Figure) -> Figure:
        if figure.unit != self.unit:
            raise PydanticCustomError(
                "figure",
                "unit = '{unit}' is not this figure's unit; state it in '{expected}'",
                {"unit": figure.unit, "expected": self.unit},
            )
        if self.above_zero and figure.low <= 0:
            raise PydanticCustomError(
                "figure", "low = {low} must be above 0 for this figure", {"low": figure.low}
            )
        if self.at_most is not None and figure.high > self.at_most:
            raise PydanticCustomError(
                "figure",
                "high = {high} must be at most {at_most} for this figure",
                {"high": figure.high, "at_most": self.at_most},
            )
        return figure


class DeviceProfile(BaseModel):
    """What a device type can do. The unit of a figure ends its name and stands in the figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str

    cores: Annotated[Figure, In("cores", "processor cores that can share an op")]
    clock_mhz: Annotated[Figure, In("MHz", "highest clock of the fastest core")]
    float32_one_thread_gflop_s: Annotated[
        Figure, In("GFLOP/s", "dense float32 arithmetic that one thread sustains")
    ]
    float32_all_cores_gflop_s: Annotated[
        Figure, In("GFLOP/s", "dense float32 arithmetic that all cores together sustain")
    ]
    int8_one_thread_gop_s: Annotated[
        Figure, In("GOP/s", "dense int8 arithmetic that one thread sustains")
    ]
    int8_all_cores_gop_s: Annotated[
        Figure, In("GOP/s", "dense int8 arithmetic that all cores together sustain")
    ]
    memory_copy_mb_s: Annotated[
        Figure,
        In("MB/s", "bytes copied a second by memcpy in main memory (each is read and written)"),
    ]
    op_dispatch_us: Annotated[
        Figure, In("us", "time that the TFLite runtime spends on an op beside its arithmetic")
    ]
    python_call_us: Annotated[Figure, In("us", "time that a call of a signature spends in Python")]
    memory_total_mib: Annotated[Figure, In("MiB", "memory of the board")]
    memory_free_mib: Annotated[
        Figure, In("MiB", "memory that the system leaves to the client, without swap")
    ]
    storage_total_mib: Annotated[Figure, In("MiB", "size of the card, eMMC or disk")]
    storage_free_mib: Annotated[
        Figure, In("MiB", "storage free once the system and fieldtune's packages are installed")
    ]
    idle_w: Annotated[Figure, In("W", "power of the whole device at rest, network connected")]
    loaded_w: Annotated[Figure, In("W", "power of the whole device while it computes")]
    radio_w: Annotated[Figure, In("W", "power that sending and receiving adds", above_zero=False)]
    download_mbit_s: Annotated[Figure, In("Mbit/s", "rate of receiving over its usual link")]
    upload_mbit_s: Annotated[Figure, In("Mbit/s", "rate of sending over its usual link")]
    latency_ms: Annotated[Figure, In("ms", "round trip to the coordinator", above_zero=False)]
    sustained_share: Annotated[
        Figure, In("share", "speed under lasting load as a share of peak, for heat", at_most=1.0)
    ]
    availability: Annotated[
        Figure, In("share", "share of the time that the device can take part", at_most=1.0)
    ]


def figure_fields() -> dict[str, In]:
    """Every figure that a profile states, in its order: field name -> unit and meaning."""
    return {
        name: mark
        for name, field in DeviceProfile.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, In)
    }
