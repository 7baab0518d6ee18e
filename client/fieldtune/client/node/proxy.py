"""The HTTP proxy between device and coordinator: ``--proxy``, ``HTTPS_PROXY``, ``ALL_PROXY``."""

from __future__ import annotations

import re
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from fieldtune.profiles.common.errors import UsageError


def checked_proxy(url: str, source: str) -> str:
    """The URL of an HTTP proxy.

    Args:
        url: to check.
        source: the option or variable that it comes from.

    Raises:
        UsageError: it is not one.
    """
    if not _is_proxy(url):
        without_password = re.sub(r"^(\w+://)?.*@", r"\1...@", url)
        raise UsageError(
            f"{source} is {without_password!r}: give the URL of an HTTP proxy, such as "
            "http://proxy.local:3128"
        )
    return url


def proxy_to_install(option: str | None) -> str | None:
    """The proxy of a service: that of ``--proxy``, else the one that the environment names.

    Raises:
        UsageError: it is not the URL of an HTTP proxy.
    """
    if option:
        return checked_proxy(option, "--proxy")
    return _of_environment()


def proxy_to(host: str) -> tuple[str, int] | None:
    """Host and port of the proxy that the environment names for a host; None without one.

    Raises:
        UsageError: what it names is not an HTTP proxy.
    """
    if proxy_bypass(host) or (url := _of_environment()) is None:
        return None
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _of_environment() -> str | None:
    given = getproxies()
    scheme = next((each for each in ("https", "all") if given.get(each)), None)
    if scheme is None:
        return None
    url = given[scheme] if "://" in given[scheme] else f"http://{given[scheme]}"
    return checked_proxy(url, f"${scheme.upper()}_PROXY")


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and re.fullmatch(r"https?://[^\s/?#\"']+/?", url)) and (
            parts.port is None or parts.port > 0
        )
    except ValueError:  # the port is no number
        return False
