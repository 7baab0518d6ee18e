"""Putting a client together: bundle, data, profile, cache and node, until it is told to stop."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.data.files import DeviceData, summary
from fieldtune.client.node.artefact_cache import ArtefactFolder
from fieldtune.client.node.state import Place, Status
from fieldtune.profiles.common.errors import DataError, ProfileError
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.host.detect import detect_profile
from fieldtune.profiles.host.probe import Host, probe

_LOG = logging.getLogger(__name__)
_SESSIONS = 2
# glibc's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (bytes) and M_ARENA_MAX.
_ALLOCATION = {-1: 65536, -3: 65536, -8: 1}
_OTHERS_MAY_READ = 0o007


def chosen_profile(given: str | None, host: Host) -> str:
    """The profile that was given, or the one that the board is.

    Raises:
        ProfileError: what was given is not in the catalogue, or nothing was and the board is not.
    """
    name = given or detect_profile(host)
    if name is None:
        raise ProfileError(
            f"this machine ({host.model or 'which does not tell its model'}) is not in the "
            "catalogue: say which device type it is with --profile ('fieldtune profiles list')"
        )
    return load_profile(name).name


def run_client(
    file: Path,
    data: str,
    *,
    profile: str | None = None,
    cache: Path | None = None,
    root: Path = Path("/"),
) -> None:
    """Serve the coordinator that the bundle names until SIGTERM or Ctrl-C.

    Args:
        file: the bundle.
        data: a folder, or ``package.module:function``; found from the working directory.
        profile: of the catalogue; detected where it is not given.
        cache: folder for artefacts, in place of the usual one.
        root: where ``proc`` and ``sys`` are; another than ``/`` for a recorded tree.
    """
    _return_freed_memory()
    bundle = Bundle.read(file)
    if file.stat().st_mode & _OTHERS_MAY_READ:
        _LOG.warning("%s can be read by others: chmod 600 %s", file, file)
    host = probe(root)
    name = chosen_profile(profile, host)
    sys.path.insert(0, str(Path.cwd()))  # where a function that gives the data is found
    device_data = DeviceData(data)
    place = Place.of(bundle.name)
    with place.locked():
        _LOG.info("%s, a %s", bundle.name, name)
        try:
            _LOG.info("data: %s", summary(device_data()))
        except DataError as bad:
            _LOG.warning("cannot take part: %s; mend it while this runs", bad)
        _serve(bundle, device_data, name, host, place, cache or place.cache)


def _return_freed_memory() -> None:
    """Have glibc give freed memory back to the board at once, from every thread (mallopt(3))."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    for option, value in _ALLOCATION.items():
        mallopt(option, value)


def _serve(
    bundle: Bundle, data: DeviceData, profile: str, host: Host, place: Place, cache: Path
) -> None:
    from fieldtune.client.node.client_app import make_client_app
    from fieldtune.client.node.fleet_api import Link
    from fieldtune.client.node.node import Node
    from fieldtune.client.training.runtime import Sessions

    node = Node(
        Link(bundle.address, bundle.ca_certificate, bundle.private_key),
        make_client_app(data, sessions=Sessions(_SESSIONS, ArtefactFolder(cache)), board=host),
        {"name": bundle.name, "profile": profile},
        place,
        Status(bundle.name, bundle.address, profile, os.getpid()),
    )

    def stop(number: int, frame: FrameType | None) -> None:
        node.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    node.run()
