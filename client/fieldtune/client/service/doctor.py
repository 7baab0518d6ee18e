"""The checks of ``fieldtune client doctor``: each yields a finding, with a remedy on failure."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import numpy as np

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.messages import Weights
from fieldtune.client.data.files import load_device_data, summary
from fieldtune.client.node.artefact_cache import MAX_MIB
from fieldtune.client.node.run import chosen_profile
from fieldtune.client.node.state import ClientFolders, statuses
from fieldtune.client.training.runtime import BadArtefactError, Session, runtime_name
from fieldtune.profiles.common.errors import FieldtuneError, FleetError
from fieldtune.profiles.host.probe import Host, probe

_CLOCK_LIMIT_S = 10.0
_EXPIRES_SOON_DAYS = 14.0
_MIN_FREE_MIB = 110.0
"""Peak memory of a client, as measured by simulations/benchmarks/light_node.py."""
_TIMEOUT_S = 10.0
_TOLERANCE = 1e-5
_CHECK = Path(__file__).with_name("check")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        topic: what was checked, in a word or two.
        message: the result.
        remedy: what to do; None if the check passed.
        blocking: whether a failure prevents the device from taking part.
    """

    topic: str
    message: str
    remedy: str | None = None
    blocking: bool = True


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
    yield _runtime_and_step()
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
    for finding in _network(bundle):
        reached = reached and (
            finding.topic == "clock" or not finding.blocking or not finding.remedy
        )
        yield finding
    if reached:
        yield _admission(bundle, folders)


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
        return Finding(
            "device", str(bad), "give --profile NAME; 'fieldtune profiles list' shows them"
        )
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
    session.train_step(
        rng.normal(size=(size, *session.input_shape)).astype(np.float32),
        rng.integers(0, session.classes, size).astype(np.int32),
        np.full(size, 1 / size, np.float32),
        {name: np.full(1, 0.1, np.float32) for name in session.hyperparameters},
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


def _network(bundle: Bundle) -> Iterator[Finding]:
    try:
        began = time.perf_counter()
        with socket.create_connection((bundle.host, bundle.port), _TIMEOUT_S):
            took_ms = 1e3 * (time.perf_counter() - began)
    except socket.gaierror:
        yield Finding("network", f"{bundle.host} has no address", "check the network and DNS")
        return
    except OSError as failed:
        yield Finding(
            "network",
            f"{bundle.address}: {failed.strerror or failed}",
            "check the network, the coordinator and its firewall",
        )
        return
    yield Finding("network", f"{bundle.address} answers in {took_ms:.0f} ms")
    yield from _certificate(bundle)


def _certificate(bundle: Bundle) -> Iterator[Finding]:
    # Imported before asking for the time: on a small board it takes longer than the clock
    # tolerance.
    from fieldtune.client.node.fleet_api import clock_behind_s, clock_error, server_date

    context = ssl.create_default_context(cadata=bundle.ca_certificate)
    connection = HTTPSConnection(bundle.host, bundle.port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        ends = ssl.cert_time_to_seconds(str((connection.sock.getpeercert() or {})["notAfter"]))
        yield _expiry(ends - time.time())
        connection.request("GET", "/")
        yield _clock(clock_behind_s(connection.getresponse().getheader("Date")))
    except ssl.SSLCertVerificationError as bad:
        today = datetime.now(UTC).date()
        if wrong := clock_error(server_date(bundle.address, bundle.ca_certificate)):
            yield _clock_finding("clock", wrong)
            return
        yield Finding(
            "certificate",
            f"{bad.verify_message} (today is {today} on this device)",
            "check this device's clock; if it is right, have the coordinator's certificate renewed",
        )
    except (OSError, HTTPException) as failed:
        yield Finding(
            "certificate", f"no TLS at {bundle.address}: {failed}", "check which server runs there"
        )
    finally:
        connection.close()


def _expiry(left_s: float) -> Finding:
    days = left_s / 86400
    if days < _EXPIRES_SOON_DAYS:
        return Finding(
            "certificate",
            f"valid for {days:.0f} more days",
            "have the coordinator's certificate renewed soon",
            blocking=False,
        )
    return Finding("certificate", f"valid for {days:.0f} more days")


def _clock(behind: float | None) -> Finding:
    from fieldtune.client.node.fleet_api import lasting

    if behind is None:
        return Finding("clock", "the coordinator does not send the time")
    if abs(behind) > _CLOCK_LIMIT_S:
        side = "behind" if behind > 0 else "ahead of"
        return Finding(
            "clock",
            f"{lasting(abs(behind))} {side} the coordinator's",
            "set it: 'timedatectl set-ntp true'; signatures are refused if it is far off",
        )
    return Finding("clock", "agrees with the coordinator's")


def _clock_finding(topic: str, sentence: str) -> Finding:
    message, _, remedy = sentence.partition(": ")
    return Finding(topic, message, remedy)


def _admission(bundle: Bundle, folders: ClientFolders) -> Finding:
    """Whether the coordinator accepts the device; a running client is not disturbed."""
    running = [each for each in statuses() if each.name == bundle.name and each.state != "stopped"]
    try:
        with folders.locked():
            if not any(_is_running(each.pid) for each in running):
                return _try_connecting(bundle)
    except FleetError:
        pass
    except FieldtuneError as bad:
        return Finding("admission", str(bad), "check the folder")
    state = running[-1] if running else None
    if state is not None and state.state == "connecting":
        return Finding(
            "admission", f"the client runs, but is not connected: {state.detail}", "see above"
        )
    return Finding("admission", "the client runs and is connected")


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _try_connecting(bundle: Bundle) -> Finding:
    from fieldtune.client.node.fleet_api import (
        KeyRefusedError,
        Link,
        LinkError,
        NotActivatedError,
        WrongClockError,
    )

    link = Link(
        bundle.address,
        bundle.ca_certificate,
        bundle.private_key,
        bundle.certificate,
        _TIMEOUT_S,
    )
    try:
        link.deactivate(link.activate())
    except NotActivatedError:
        return Finding(
            "admission",
            "the coordinator does not accept this device",
            "if it has just lost its connection, wait a minute; else have it enrolled, and stop "
            "other devices that use its bundle",
        )
    except WrongClockError as wrong:
        return _clock_finding("admission", str(wrong))
    except KeyRefusedError as refused:
        return Finding("admission", str(refused), "have the device enrolled again")
    except LinkError as lost:
        return Finding("admission", str(lost), "see above")
    finally:
        link.close()
    return Finding("admission", "the coordinator accepts this device")
