"""Measured rates of single kernels, as ``fieldtune profiles measure`` writes them."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fieldtune.profiles.device.value import Basis

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


class RatesByKernel(dict[str, KernelRates | None]):
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
