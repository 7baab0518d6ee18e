"""What a device type can do: a profile of figures, each with its interval, unit and source.

A profile never holds a bare point. Published sources disagree (a Raspberry Pi 4B is 1.8 or 3.4
times a 3B+, depending on whom one asks), so a figure states how far it may be off and where it is
from, and everything predicted from it carries that interval on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

Basis = Literal["measured", "published", "estimated"]


class Figure(BaseModel):
    """One figure of a device: a value and the interval that holds it nine times in ten.

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

    def _check(self, figure: Figure | None) -> Figure | None:
        if figure is None:
            return None
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


Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class KernelRates(BaseModel):
    """What a kernel was measured to cost: microseconds for each thing that its work counts.

    ``low`` and ``high`` are the ends of the 90 % interval, as shares of the predicted time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    op_us: Rate = 0.0  # an op
    mflop_us: Rate = 0.0  # a million floating-point operations
    mb_us: Rate = 0.0  # a million bytes moved
    mrun_us: Rate = 0.0  # a million runs of the inner loop
    mwide_us: Rate = 0.0  # a million steps over wide tiles
    mouter_us: Rate = 0.0  # a million runs of the outer loop
    mstart_us: Rate = 0.0  # a million starts of the inner loop
    near_mb_us: Rate = 0.0  # a million bytes that left the first-level cache, on top
    far_mb_us: Rate = 0.0  # a million bytes from afar, on top
    remote_mb_us: Rate = 0.0  # a million of these that no cache holds, on top of that
    low: Annotated[float, Field(gt=0, le=1)]
    high: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    basis: Basis
    source: Annotated[str, Field(min_length=1)]

    @cached_property
    def us(self) -> tuple[float, ...]:
        """Microseconds of one of each thing, in the order of the fields of an OpWork."""
        moved = (self.mflop_us, self.mb_us)
        loops = (self.mrun_us, self.mwide_us, self.mouter_us, self.mstart_us)
        gone = (self.near_mb_us, self.far_mb_us, self.remote_mb_us)
        return (self.op_us, *(us * 1e-6 for us in (*moved, *loops, *gone)))


class DeviceProfile(BaseModel):
    """What a device type can do. The unit of a figure ends its name and stands in the figure.

    A figure that may be left out is ``None`` where the device does not tell it. ``classes`` holds
    measured rates by the name of a kernel or of a whole class of ops; they stand in the place of
    the shares of dense arithmetic that the cost model takes otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str

    cores: Annotated[Figure, In("cores", "processor cores that can share an op")]
    clock_mhz: Annotated[Figure | None, In("MHz", "highest clock of the fastest core")] = None
    float32_one_thread_gflop_s: Annotated[
        Figure, In("GFLOP/s", "dense float32 arithmetic that one thread sustains")
    ]
    float32_all_cores_gflop_s: Annotated[
        Figure, In("GFLOP/s", "dense float32 arithmetic that all cores together sustain")
    ]
    int8_one_thread_gop_s: Annotated[
        Figure | None, In("GOP/s", "dense int8 arithmetic that one thread sustains")
    ] = None
    int8_all_cores_gop_s: Annotated[
        Figure | None, In("GOP/s", "dense int8 arithmetic that all cores together sustain")
    ] = None
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
    idle_w: Annotated[
        Figure | None, In("W", "power of the whole device at rest, network connected")
    ] = None
    loaded_w: Annotated[Figure | None, In("W", "power of the whole device while it computes")] = (
        None
    )
    radio_w: Annotated[
        Figure | None, In("W", "power that sending and receiving adds", above_zero=False)
    ] = None
    download_mbit_s: Annotated[
        Figure | None, In("Mbit/s", "rate of receiving over its usual link")
    ] = None
    upload_mbit_s: Annotated[Figure | None, In("Mbit/s", "rate of sending over its usual link")] = (
        None
    )
    latency_ms: Annotated[
        Figure | None, In("ms", "round trip to the coordinator", above_zero=False)
    ] = None
    sustained_share: Annotated[
        Figure, In("share", "speed under lasting load as a share of peak, for heat", at_most=1.0)
    ]
    availability: Annotated[
        Figure | None, In("share", "share of the time that the device can take part", at_most=1.0)
    ] = None
    process_mib: Annotated[
        Figure | None, In("MiB", "resident memory of a client's process before its first model")
    ] = None
    inference_process_mib: Annotated[
        Figure | None, In("MiB", "resident memory of a process that only runs a model")
    ] = None
    classes: dict[str, KernelRates] = Field(default_factory=dict)

    @cached_property
    def rates(self) -> Mapping[str, KernelRates | None]:
        """Measured rates by any kernel's name: its own, or those of the nearest that was measured.

        Of ``conv.conv_2d.plain`` these are ``conv.conv_2d``, ``conv``, and last the dearest op of
        its class. None where nothing like it was measured.
        """
        return _Nearest(self.classes)


class _Nearest(dict[str, KernelRates | None]):
    """Rates that are looked for once for each name: the cost model asks thousands of times."""

    def __init__(self, classes: Mapping[str, KernelRates]) -> None:
        super().__init__(classes)
        self._classes = classes

    def __missing__(self, kernel: str) -> KernelRates | None:
        self[kernel] = found = self._find(kernel.split("."))
        return found

    def _find(self, parts: list[str]) -> KernelRates | None:
        for length in range(len(parts), 0, -1):
            found = self._classes.get(".".join(parts[:length]))
            if found is not None:
                return found
        for length in range(len(parts) - 1, 0, -1):
            start = ".".join(parts[:length]) + "."
            kin = [rates for name, rates in self._classes.items() if name.startswith(start)]
            if kin:
                return max(kin, key=lambda rates: (rates.op_us, rates.mb_us))
        return None


def figure_fields() -> dict[str, In]:
    """Every figure that a profile states, in its order: field name -> unit and meaning."""
    return {
        name: mark
        for name, field in DeviceProfile.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, In)
    }
