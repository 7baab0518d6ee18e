"""Device profiles: the performance data of a device type, each value with interval and source.

Every value has an interval. Published sources disagree (a Raspberry Pi 4B is 1.8 or 3.4 times as
fast as a 3B+, depending on the source), so each value states its uncertainty and its source, and
the uncertainty is propagated to every prediction.
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


Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class KernelRates(BaseModel):
    """Measured time of a kernel: microseconds per unit of each feature of its work.

    ``low`` and ``high`` are the ends of the 90 % interval, as factors of the predicted time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    op_us: Rate = 0.0  # per op
    mflop_us: Rate = 0.0  # per million floating-point operations
    mb_us: Rate = 0.0  # per million bytes read or written
    mrun_us: Rate = 0.0  # per million iterations of the inner loop
    mwide_us: Rate = 0.0  # per million steps over wide tiles
    mouter_us: Rate = 0.0  # per million iterations of the outer loop
    mstart_us: Rate = 0.0  # per million starts of the inner loop
    near_mb_us: Rate = 0.0  # extra, per million bytes that miss the L1 cache
    far_mb_us: Rate = 0.0  # extra, per million bytes that also miss the L2 cache
    remote_mb_us: Rate = 0.0  # extra, per million bytes of main memory traffic
    low: Annotated[float, Field(gt=0, le=1)]
    high: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    basis: Basis
    source: Annotated[str, Field(min_length=1)]

    @cached_property
    def us(self) -> tuple[float, ...]:
        """Microseconds per unit of each feature, in the order of the fields of an OpWork."""
        moved = (self.mflop_us, self.mb_us)
        loops = (self.mrun_us, self.mwide_us, self.mouter_us, self.mstart_us)
        misses = (self.near_mb_us, self.far_mb_us, self.remote_mb_us)
        return (self.op_us, *(us * 1e-6 for us in (*moved, *loops, *misses)))


class DeviceProfile(BaseModel):
    """The performance data of a device type. A field's name ends with the unit of its value.

    Optional values are ``None`` if not given. ``classes`` maps the name of a kernel or of a class
    of ops to its measured rates; for these the cost model uses the rates instead of assumed shares
    of the dense arithmetic rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str

    cores: Annotated[ProfileValue, ValueSpec("cores", "processor cores that can share an op")]
    clock_mhz: Annotated[
        ProfileValue | None, ValueSpec("MHz", "highest clock of the fastest core")
    ] = None
    float32_one_thread_gflop_s: Annotated[
        ProfileValue, ValueSpec("GFLOP/s", "dense float32 arithmetic that one thread sustains")
    ]
    float32_all_cores_gflop_s: Annotated[
        ProfileValue,
        ValueSpec("GFLOP/s", "dense float32 arithmetic that all cores together sustain"),
    ]
    int8_one_thread_gop_s: Annotated[
        ProfileValue | None, ValueSpec("GOP/s", "dense int8 arithmetic that one thread sustains")
    ] = None
    int8_all_cores_gop_s: Annotated[
        ProfileValue | None,
        ValueSpec("GOP/s", "dense int8 arithmetic that all cores together sustain"),
    ] = None
    plain_share: Annotated[
        ProfileValue | None,
        ValueSpec("share", "rate of the runtime's kernels outside XNNPACK, on one thread"),
    ] = None
    memory_copy_mb_s: Annotated[
        ProfileValue,
        ValueSpec(
            "MB/s", "bytes copied a second by memcpy in main memory (each is read and written)"
        ),
    ]
    memory_traffic_mb_s: Annotated[
        ProfileValue | None,
        ValueSpec("MB/s", "bytes a second that kernels read and write beyond the L2 cache"),
    ] = None
    sync_us: Annotated[
        ProfileValue | None, ValueSpec("us", "time that each further thread adds to an op")
    ] = None
    op_dispatch_us: Annotated[
        ProfileValue,
        ValueSpec("us", "time that the TFLite runtime spends on an op beside its arithmetic"),
    ]
    python_call_us: Annotated[
        ProfileValue, ValueSpec("us", "time that a call of a signature spends in Python")
    ]
    memory_total_mib: Annotated[ProfileValue, ValueSpec("MiB", "memory of the board")]
    memory_free_mib: Annotated[
        ProfileValue, ValueSpec("MiB", "memory that the system leaves to the client, without swap")
    ]
    storage_total_mib: Annotated[ProfileValue, ValueSpec("MiB", "size of the card, eMMC or disk")]
    storage_free_mib: Annotated[
        ProfileValue,
        ValueSpec("MiB", "storage free once the system and fieldtune's packages are installed"),
    ]
    idle_w: Annotated[
        ProfileValue | None, ValueSpec("W", "power of the whole device at rest, network connected")
    ] = None
    one_core_w: Annotated[
        ProfileValue | None, ValueSpec("W", "power of the whole device while one core computes")
    ] = None
    loaded_w: Annotated[
        ProfileValue | None, ValueSpec("W", "power of the whole device while all cores compute")
    ] = None
    radio_w: Annotated[
        ProfileValue | None,
        ValueSpec("W", "power that sending and receiving adds", above_zero=False),
    ] = None
    download_mbit_s: Annotated[
        ProfileValue | None, ValueSpec("Mbit/s", "rate of receiving over its usual link")
    ] = None
    upload_mbit_s: Annotated[
        ProfileValue | None, ValueSpec("Mbit/s", "rate of sending over its usual link")
    ] = None
    latency_ms: Annotated[
        ProfileValue | None, ValueSpec("ms", "round trip to the coordinator", above_zero=False)
    ] = None
    sustained_share: Annotated[
        ProfileValue,
        ValueSpec("share", "speed under lasting load as a share of peak, for heat", at_most=1.0),
    ]
    availability: Annotated[
        ProfileValue | None,
        ValueSpec("share", "share of the time that the device can take part", at_most=1.0),
    ] = None
    process_mib: Annotated[
        ProfileValue | None,
        ValueSpec("MiB", "resident memory of a client's process before its first model"),
    ] = None
    inference_process_mib: Annotated[
        ProfileValue | None, ValueSpec("MiB", "resident memory of a process that only runs a model")
    ] = None
    classes: dict[str, KernelRates] = Field(default_factory=dict)

    @cached_property
    def rates(self) -> Mapping[str, KernelRates | None]:
        """Measured rates by kernel name, falling back to the most similar measured kernel.

        For ``conv.conv_2d.plain`` the fallbacks are ``conv.conv_2d``, ``conv``, and last the
        slowest kernel of its class. None if no kernel of the class was measured.
        """
        return _RatesByKernel(self.classes)


class _RatesByKernel(dict[str, KernelRates | None]):
    """Rates by kernel name, each resolved once: the cost model looks them up thousands of times."""

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
            similar = [rates for name, rates in self._classes.items() if name.startswith(start)]
            if similar:
                return max(similar, key=lambda rates: (rates.op_us, rates.mb_us))
        return None


def value_fields() -> dict[str, ValueSpec]:
    """Every value of a profile, in order: field name -> unit, meaning and bounds."""
    return {
        name: spec
        for name, field in DeviceProfile.model_fields.items()
        for spec in field.metadata
        if isinstance(spec, ValueSpec)
    }
