"""The checks of ``fieldtune client doctor``: each yields a finding, with a remedy on failure."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.messages import Weights
from fieldtune.client.data.files import load_device_data, summary
from fieldtune.client.node.artefact_cache import MAX_MIB
from fieldtune.client.node.run import chosen_profile
from fieldtune.client.node.state import ClientFolders
from fieldtune.client.service.connection import admission, network
from fieldtune.client.service.finding import Finding
from fieldtune.client.service.quiet import without_notices
from fieldtune.client.training.runtime import BadArtefactError, Session, runtime_name
from fieldtune.profiles.common.errors import FieldtuneError
from fieldtune.profiles.host.probe import Host, probe

_MIN_FREE_MIB = 110.0
"""Peak memory of a client, as measured by simulations/benchmarks/light_node.py."""
_TOLERANCE = 1e-5
_CHECK = Path(__file__).with_name("check")


def examine(
    file: Path, data: str | None, profile: str | None, root: Path = Path("/")
) -> Iterator[Finding]:
    """Check everything that a client needs, local checks before network checks.

    Args:
        file: the bundle.
        data: a folder or ``package.module:function``; None: not checked.
        profile: as given to ``fieldtune client run``.
        root: folder that contains ``proc`` and ``sys``.
    """
    host = probe(root)
    yield _python()
    yield _profile(profile, host)
    yield _memory(host)
    with without_notices():
        step = _runtime_and_step()
    yield step
    if data is not None:
        yield _data(data)
    try:
        bundle = Bundle.read(file)
    except FieldtuneError as bad:
        yield Finding("bundle", str(bad), "copy the bundle from the coordinator again")
        return
    yield _bundle(bundle, file)
    folders = ClientFolders.of(bundle.name)
    yield _disk(folders.cache)
    reached = True
    for finding in network(bundle):
        reached = reached and (
            finding.topic == "clock" or not finding.blocking or not finding.remedy
        )
        yield finding
    if reached:
        yield admission(bundle, folders)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.maxsize < 2**32:
        return Finding(
            "python", f"{version}, 32 bits", "use a 64-bit system: Flower has no 32-bit packages"
        )
    return Finding("python", f"{version}, 64 bits")


def _profile(given: str | None, host: Host) -> Finding:
    try:
        name = chosen_profile(given, host)
    except FieldtuneError as bad:
        what, remedy = str(bad), "give another --profile NAME"
        if given is None:
            what, _, remedy = what.partition(": ")
        return Finding("device", what, remedy)
    throttled = ", ".join(host.throttling or ())
    if throttled:
        return Finding(
            "device",
            f"{name}, {throttled}",
            "cool it, or use a stronger power supply",
            blocking=False,
        )
    return Finding("device", f"{name} ({host.model or 'unknown model'})")


def _memory(host: Host) -> Finding:
    free = host.memory_available_mib
    if free is None:
        return Finding("memory", "the system does not report free memory")
    if free < _MIN_FREE_MIB:
        return Finding(
            "memory",
            f"{free:.0f} MiB free, a client needs about {_MIN_FREE_MIB:.0f}",
            "stop other programs, for example the desktop",
        )
    return Finding("memory", f"{free:.0f} MiB free")


def _runtime_and_step() -> Finding:
    """One training step of a small artefact, compared with the result on x86-64."""
    try:
        name = runtime_name()
        session = Session((_CHECK / "step.tflite").read_bytes())
        check_step(session)  # the first step allocates memory
        began = time.perf_counter()
        weights = check_step(session)
        took_ms = 1e3 * (time.perf_counter() - began)
    except ModuleNotFoundError as missing:
        return Finding("runtime", str(missing), "pip install ai-edge-litert")
    except (SystemError, ImportError, BadArtefactError) as broken:
        return Finding(
            "runtime",
            f"cannot train here: {broken}",
            "pip install ai-edge-litert; or, for tflite-runtime, pip install 'numpy<2'",
        )
    worst = float(np.abs(weights - np.load(_CHECK / "expected.npy", allow_pickle=False)).max())
    if not worst <= _TOLERANCE:
        return Finding(
            "runtime",
            f"{name}: weights after a step differ by {worst:.1e}",
            "install another version of the runtime",
        )
    return Finding("runtime", f"{name} trains correctly, {took_ms:.2f} ms per step")


def check_step(session: Session) -> Weights:
    """The weights after one training step with fixed inputs."""
    rng = np.random.default_rng(1)
    session.load(rng.normal(0, 0.1, session.weight_count).astype(np.float32))
    size = session.micro_batch
    session.set_hyperparameters(dict.fromkeys(session.hyperparameters, 0.1))
    session.train_step(
        rng.normal(size=(size, *session.input_shape)).astype(np.float32),
        rng.integers(0, session.classes, size).astype(np.int32),
        np.full(size, 1 / size, np.float32),
        apply=True,
    )
    return session.weights()


def _data(where: str) -> Finding:
    try:
        return Finding("data", summary(load_device_data(where)))
    except FieldtuneError as bad:
        return Finding("data", str(bad), "fix the data, or use another --data")
    except MemoryError:
        return Finding("data", "does not fit into memory", "keep fewer samples on the device")


def _bundle(bundle: Bundle, file: Path) -> Finding:
    if file.stat().st_mode & 0o007:
        return Finding(
            "bundle", f"{bundle.name}; others can read its key", f"chmod 600 {file}", blocking=False
        )
    return Finding("bundle", f"{bundle.name}, for {bundle.address}")


def _disk(cache: Path) -> Finding:
    folder = next(each for each in (cache, *cache.parents) if each.exists())
    free = shutil.disk_usage(folder).free / 2**20
    if not os.access(folder, os.W_OK):
        return Finding("disk", f"{folder} cannot be written", "check its owner", blocking=False)
    if free < MAX_MIB:
        return Finding(
            "disk",
            f"{free:.0f} MiB free; artefacts will not be kept",
            f"free {MAX_MIB:.0f} MiB",
            blocking=False,
        )
    return Finding("disk", f"{free:.0f} MiB free")
