"""Device profiles: the performance data of a device type, each value with interval and source.

Every value has an interval. Published sources disagree (a Raspberry Pi 4B is 1.8 or 3.4 times as
fast as a 3B+, depending on the source), so each value states its uncertainty and its source, and
the uncertainty is propagated to every prediction.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fieldtune.profiles.device.kernel_rates import KernelRates, RatesByKernel
from fieldtune.profiles.device.value import ProfileValue, ValueSpec

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class HeldOut(BaseModel):
    """How far predictions were off for models that a fit had not seen.

    ``profiles fit`` writes one for each kind of latency (``one thread``, ``int8 several threads``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    left_out: Literal["families", "models"]  # at a time: all MobileNet v2, or one model
    rows: Annotated[int, Field(ge=1)]
    ratio: Share  # median of predicted / measured
    median: Share  # median of the relative errors
    most: Share  # nine in ten relative errors are at most this
    holds: Annotated[float, Field(ge=0, le=1)]  # share of rows within the stated 90 % interval
    width: Annotated[float, Field(ge=1, allow_inf_nan=False)]  # median of its high / low
    sources: Annotated[str, Field(min_length=1)]


class DeviceProfile(BaseModel):
    """The performance data of a device type. A field's name ends with the unit of its value.

    Optional values are ``None`` if not given. ``classes`` maps the name of a kernel or of a class
    of ops to its measured rates; for these the cost model uses the rates instead of assumed shares
    of the dense arithmetic rate. ``held_out`` says how true the fitted values are.
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
        ProfileValue | None,
        ValueSpec("us", "time that each further thread adds to an op that threads share"),
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
    held_out: dict[str, HeldOut] = Field(default_factory=dict)

    @cached_property
    def rates(self) -> Mapping[str, KernelRates | None]:
        """Measured rates by kernel name, falling back to the most similar measured kernel.

        For ``conv.conv_2d.plain`` the fallbacks are ``conv.conv_2d``, ``conv``, and last the
        slowest kernel of its class. None if no kernel of the class was measured.
        """
        return RatesByKernel(self.classes)


RATES = (
    "float32_one_thread_gflop_s",
    "float32_all_cores_gflop_s",
    "int8_one_thread_gop_s",
    "int8_all_cores_gop_s",
    "plain_share",
    "memory_traffic_mb_s",
    "sync_us",
)
"""The values that ``fieldtune profiles fit`` can fit."""


def value_fields() -> dict[str, ValueSpec]:
    """Every value of a profile, in order: field name -> unit, meaning and bounds."""
    return {
        name: spec
        for name, field in DeviceProfile.model_fields.items()
        for spec in field.metadata
        if isinstance(spec, ValueSpec)
    }
