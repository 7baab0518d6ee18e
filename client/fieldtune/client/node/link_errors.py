"""Why a request to the coordinator failed.

::

    LinkError
    ├── UnreachableError           the network, the proxy or the SuperLink is down: try again
    │   └── ContentPendingError    the coordinator is still uploading the content: try again soon
    ├── UntrustedError             the coordinator's certificate is not valid for this device
    ├── WrongClockError            the device's clock differs too much from the coordinator's
    ├── KeyRefusedError            the device's key is unknown
    ├── NotActivatedError          Flower's error 2004: the key is unknown or already connected
    ├── RunEndedError              the run has ended, or the message has been deleted
    ├── TooLargeError              an answer, or a message, is larger than the device takes
    └── NotOfferedError            the coordinator does not know this call
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

import httpx
from google.protobuf.message import DecodeError

from fieldtune.client.node.clock import clock_error

_NOT_ACTIVATED = 2004
"""Flower's FLEET_NODE_ACTIVATION_FAILED; importing its error module would import fastapi."""
_SUPERLINK_DOWN = (502, 503, 504)
_NOT_OFFERED = (403, 404, 405)
"""HTTP statuses of a call that the server does not know."""
_Result = TypeVar("_Result")


class LinkError(Exception):
    """A request to the coordinator failed; the message gives the reason."""


class UnreachableError(LinkError):
    """The network, the proxy or the SuperLink is down."""


class ContentPendingError(UnreachableError):
    """A message's metadata has arrived, but the coordinator is still uploading its content."""


class UntrustedError(LinkError):
    """The coordinator's certificate is not valid for this device."""


class WrongClockError(LinkError):
    """The device's clock differs too much: signatures or certificates are refused for that."""


class KeyRefusedError(LinkError):
    """The coordinator does not accept the device's signature."""


class NotActivatedError(LinkError):
    """Flower's error 2004."""


class RunEndedError(LinkError):
    """The run has ended or the message has been deleted: no reply is needed."""


class TooLargeError(LinkError):
    """An answer, or a message, is larger than the device takes."""


class NotOfferedError(LinkError):
    """An older coordinator, or SuperLink alone, does not know this call."""


def checked(request: Callable[[], _Result]) -> _Result:
    """Make a request and convert its exceptions to :class:`LinkError`."""
    try:
        return request()
    except httpx.HTTPStatusError as refused:
        raise _http_error(refused.response) from None
    except httpx.ProxyError as refused:
        raise UnreachableError(f"the HTTP proxy does not connect to it: {refused}") from None
    except httpx.TransportError as failed:
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(failed)) or type(failed).__name__
        if "WRONG_VERSION_NUMBER" in reason:
            reason = "the server there does not use TLS, so it is not the coordinator"
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            why = reason.partition("failed: ")[2].partition(" (_ssl")[0]
            raise UntrustedError(why) from None
        raise UnreachableError(reason) from None
    except (ValueError, DecodeError, httpx.HTTPError) as error:
        raise UnreachableError(f"invalid response, not from a SuperLink: {error}") from None


def _http_error(response: httpx.Response) -> LinkError:
    status, code = response.status_code, _flower_code(response)
    if status == httpx.codes.UNAUTHORIZED:
        if wrong := clock_error(response.headers.get("date")):
            return WrongClockError(wrong)
        return KeyRefusedError("the coordinator does not know its key")
    if code == _NOT_ACTIVATED:
        return NotActivatedError(f"Flower error {code}")
    if status == httpx.codes.FORBIDDEN and code is not None:
        return RunEndedError(f"Flower error {code}")
    path = response.request.url.path
    if status in _NOT_OFFERED and path.startswith("/v1/fieldtune/"):
        return NotOfferedError(path)
    if status in _SUPERLINK_DOWN:
        return UnreachableError(f"its SuperLink does not answer the proxy (HTTP status {status})")
    return UnreachableError(f"HTTP status {status} at {path}")


def _flower_code(response: httpx.Response) -> int | None:
    """The code of a Flower error; None if the response is from something else, such as a proxy."""
    try:
        body = json.loads(response.text)
    except ValueError:
        return None
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) else None
