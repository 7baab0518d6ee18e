"""A control group of little memory, as a small board has it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.devices import wait_for

_MEMORY = Path("/sys/fs/cgroup/memory")
_NUMBERS = itertools.count()


@contextmanager
def control_group(limit_bytes: int) -> Iterator[Path]:
    """A new group (cgroups, version 1), removed once its processes have ended."""
    group = _MEMORY / f"fieldtune-{os.getpid()}-{next(_NUMBERS)}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as refused:
        pytest.skip(f"OUT OF MEMORY IS NOT TESTED: no memory cgroup can be made here: {refused}")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()
