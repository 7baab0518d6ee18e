"""Running a client: reads the bundle and the data, then runs the node until it is stopped."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.data.files import DeviceData, summary
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.node.artefact_cache import ArtefactFolder
from fieldtune.client.node.proxy import proxy_to
from fieldtune.client.node.state import ClientFolders, Status
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
    """The given profile, or the detected profile of this board.

    Raises:
        ProfileError: the given profile is unknown, or none was given and the board is unknown.
    """
    name = given or detect_profile(host)
    if name is None:
        raise ProfileError(
            f"this machine ({host.model or 'unknown model'}) is not in the catalogue: set its "
            "device type with --profile ('fieldtune profiles list')"
        )
    return load_profile(name).name


def run_client(
    file: Path,
    data: str,
    *,
    profile: str | None = None,
    privacy: Sequence[str] = (),
) -> None:
    """Work for the coordinator that the bundle names until SIGTERM or Ctrl-C.

    Args:
        file: path of the bundle.
        data: a folder, or ``package.module:function``, relative to the working directory.
        profile: name in the catalogue; None: detected.
        privacy: ``KEY=VALUE`` entries that override those of ``[privacy]`` in ``data.toml``.

    Raises:
        UsageError: ``HTTPS_PROXY`` is not the URL of an HTTP proxy.
    """
    _return_freed_memory()
    bundle = Bundle.read(file)
    if file.stat().st_mode & _OTHERS_MAY_READ:
        _LOG.warning("%s can be read by others: chmod 600 %s", file, file)
    host = probe()
    name = chosen_profile(profile, host)
    sys.path.insert(0, str(Path.cwd()))  # to find the function that returns the data
    device_data = DeviceData(data, privacy)
    folders = ClientFolders.of(bundle.name)
    with folders.locked():
        _LOG.info("%s, a %s", bundle.name, name)
        if proxy := proxy_to(bundle.host):
            _LOG.info("connects through the HTTP proxy %s:%d", *proxy)
        _most_mib(device_data)  # entries of --privacy that are wrong end the client here
        try:
            _LOG.info("data: %s", summary(device_data()))
        except DataError as bad:
            _LOG.warning("cannot take part: %s; this can be fixed while the client runs", bad)
        _serve(bundle, device_data, name, host, folders)


def _most_mib(data: DeviceData) -> float:
    """Of a message: a model, its weights, and SCAFFOLD's correction of them."""
    privacy = Privacy()
    with suppress(DataError):  # it has been said, and can be mended while the client runs
        privacy = data.privacy()
    return 3 * privacy.max_model_mib + 8


def _return_freed_memory() -> None:
    """Make glibc return freed memory to the system at once, in all threads (mallopt(3))."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    for option, value in _ALLOCATION.items():
        mallopt(option, value)


def _serve(
    bundle: Bundle,
    data: DeviceData,
    profile: str,
    host: Host,
    folders: ClientFolders,
) -> None:
    from fieldtune.client.deployed.candidate import Candidates
    from fieldtune.client.deployed.slots import Slots
    from fieldtune.client.node.client_app import make_client_app
    from fieldtune.client.node.fleet_api import Link
    from fieldtune.client.node.node import LightNode
    from fieldtune.client.node.operations import add_operations
    from fieldtune.client.training.privacy_budget import PrivacyBudget
    from fieldtune.client.training.runtime import Sessions
    from fieldtune.client.training.trial_run import try_first

    app = make_client_app(
        data,
        sessions=Sessions(_SESSIONS, ArtefactFolder(folders.cache), try_first),
        board=host,
        privacy_of=data.privacy,
        budget=PrivacyBudget(folders.state / "privacy.json"),
        # A bundle with a certificate is from a coordinator that signs.
        ca_certificate=bundle.ca_certificate if bundle.certificate else None,
    )
    slots = Slots(folders.state)
    slots.recover()
    status = Status(bundle.name, bundle.address, profile, os.getpid())
    candidates = Candidates(bundle.name, slots, data, data.privacy, try_first)
    add_operations(app, candidates, data, status, bundle.ca_certificate)
    node = LightNode(
        Link(
            bundle.address,
            bundle.ca_certificate,
            bundle.private_key,
            bundle.certificate,
            most_mib=lambda: _most_mib(data),
        ),
        app,
        {"name": bundle.name, "profile": profile},
        folders,
        status,
    )

    def stop(number: int, frame: FrameType | None) -> None:
        node.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    node.run()
