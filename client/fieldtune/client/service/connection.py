"""The doctor's checks of the way to the coordinator.

Whether it answers, directly or through an HTTP proxy; its certificate; the clock; and whether it
accepts the device.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.node.proxy import proxy_to
from fieldtune.client.node.state import ClientFolders, statuses
from fieldtune.client.service.finding import Finding
from fieldtune.profiles.common.errors import FieldtuneError, FleetError, UsageError
from fieldtune.profiles.common.text import duration

_CLOCK_LIMIT_S = 10.0
_EXPIRES_SOON_DAYS = 14.0
_TIMEOUT_S = 10.0


def network(bundle: Bundle) -> Iterator[Finding]:
    """Whether the coordinator, or the HTTP proxy to it, answers, with a certificate and a time."""
    try:
        proxy = proxy_to(bundle.host)
    except UsageError as bad:
        what, _, remedy = str(bad).partition(": ")
        yield Finding("network", what, remedy)
        return
    host, port = proxy or (bundle.host, bundle.port)
    where = f"the HTTP proxy {host}:{port}" if proxy else bundle.address
    try:
        began = time.perf_counter()
        with socket.create_connection((host, port), _TIMEOUT_S):
            took_ms = 1e3 * (time.perf_counter() - began)
    except socket.gaierror:
        yield Finding("network", f"{host} has no address", "check the network and DNS")
        return
    except OSError as failed:
        remedy = (
            "check $HTTPS_PROXY" if proxy else "check the network, the coordinator and its firewall"
        )
        yield Finding("network", f"{where}: {failed.strerror or failed}", remedy)
        return
    yield Finding("network", f"{where} answers in {took_ms:.0f} ms")
    yield from _certificate(bundle)


def _certificate(bundle: Bundle) -> Iterator[Finding]:
    # Imported before asking for the time: on a small board it takes longer than the clock
    # tolerance.
    import httpx

    from fieldtune.client.node.clock import clock_behind_s, clock_error, server_date

    context = ssl.create_default_context(cadata=bundle.ca_certificate)
    try:
        url = f"https://{bundle.address}/"
        with httpx.stream("GET", url, verify=context, timeout=_TIMEOUT_S) as answer:
            shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
            behind = clock_behind_s(answer.headers.get("date"))
    except httpx.ProxyError as refused:
        yield Finding(
            "network",
            f"the HTTP proxy does not connect to {bundle.address}: {refused}",
            "have it allow CONNECT to there, or check $HTTPS_PROXY",
        )
    except httpx.HTTPError as failed:
        if bad := _not_verified(failed):
            if wrong := clock_error(server_date(bundle.address, bundle.ca_certificate)):
                yield _clock_finding("clock", wrong)
                return
            yield Finding(
                "certificate",
                f"{bad} (today is {datetime.now(UTC).date()} on this device)",
                "check this device's clock; if it is right, have the coordinator's certificate "
                "renewed",
            )
            return
        yield Finding(
            "certificate", f"no TLS at {bundle.address}: {failed}", "check which server runs there"
        )
    else:
        yield _expiry(ssl.cert_time_to_seconds(shown["notAfter"]) - time.time())
        yield _clock(behind)


def _not_verified(failed: BaseException | None) -> str:
    """Why a certificate was not accepted; empty where a request has failed for another reason."""
    while failed is not None:
        if isinstance(failed, ssl.SSLCertVerificationError):
            return failed.verify_message
        failed = failed.__cause__ or failed.__context__
    return ""


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
    if behind is None:
        return Finding("clock", "the coordinator does not send the time")
    if abs(behind) > _CLOCK_LIMIT_S:
        side = "behind" if behind > 0 else "ahead of"
        return Finding(
            "clock",
            f"{duration(abs(behind))} {side} the coordinator's",
            "set it: 'timedatectl set-ntp true'; signatures are refused if it is far off",
        )
    return Finding("clock", "agrees with the coordinator's")


def _clock_finding(topic: str, sentence: str) -> Finding:
    message, _, remedy = sentence.partition(": ")
    return Finding(topic, message, remedy)


def admission(bundle: Bundle, folders: ClientFolders) -> Finding:
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
            "admission",
            f"the client runs, but is not connected: {state.detail}",
            "see above; after 'coordinator enroll --renew', install or run it with the new bundle",
        )
    return Finding("admission", "the client runs and is connected")


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _try_connecting(bundle: Bundle) -> Finding:
    from fieldtune.client.node.fleet_api import Link
    from fieldtune.client.node.link_errors import (
        KeyRefusedError,
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
