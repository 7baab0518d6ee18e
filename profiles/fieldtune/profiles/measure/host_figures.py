"""Measurements of this host that need no TFLite graph: memory, storage and power."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fieldtune.profiles.host.probe import Host, pmic_power_w
from fieldtune.profiles.measure.tflite_graphs import chain

_BUFFER_MIB = 64
_COPIES = 12
_MIB = 2.0**20
_PROCESS_TIMEOUT_S = 60
# What each kind of process imports; then it runs the graph that it reads from stdin.
_RUNNER = "import sys, numpy, {package}.interpreter as runtime"
_CLIENT = _RUNNER + ", flwr.clientapp, pydantic"
_RUN_AND_PRINT_STATUS = """
ready = runtime.Interpreter(model_content=sys.stdin.buffer.read(), num_threads=1)
ready.allocate_tensors()
ready.invoke()
print(open("/proc/self/status").read())
"""


def copy_mb_s() -> tuple[float, float, float]:
    """Copy rate of main memory in MB/s: fastest decile, median, slowest decile."""
    source = np.ones(_BUFFER_MIB * 2**17)  # of 8 bytes each
    target = np.zeros_like(source)
    np.copyto(target, source)
    rates = []
    for _ in range(_COPIES):
        began = time.perf_counter()
        np.copyto(target, source)
        rates.append(source.nbytes / (time.perf_counter() - began) / 1e6)
    low, middle, high = np.quantile(rates, [0.1, 0.5, 0.9])
    return float(high), float(middle), float(low)


def process_mib(package: str, *, client: bool) -> float | None:
    """Peak resident memory in MiB of a new process that has run a small graph; None if it fails.

    Args:
        package: import name of the TFLite runtime.
        client: True for a federated client with flwr; False for a process that only runs a model.
    """
    code = (_CLIENT if client else _RUNNER).format(package=package) + _RUN_AND_PRINT_STATUS
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=chain("ADD", 4, 1),
            capture_output=True,
            timeout=_PROCESS_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    peak = re.search(r"^VmHWM:\s*(\d+) kB$", done.stdout.decode(), re.MULTILINE)
    return None if peak is None else int(peak.group(1)) / 1024


def storage_mib(folder: Path) -> tuple[float, float]:
    """Size and free space, in MiB, of the file system of a folder."""
    usage = shutil.disk_usage(folder)
    return usage.total / _MIB, usage.free / _MIB


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def power_w(host: Host) -> float | None:
    """The board's current power consumption in watts; ``None`` if it does not report it."""
    if host.power_command is None:
        return None
    try:
        done = subprocess.run(
            host.power_command, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return pmic_power_w(done.stdout)
