"""What a device makes of a coordinator that refuses, is not itself, or is not there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from fieldtune.client.node.fleet_api import Link
from fieldtune.client.node.link_errors import (
    KeyRefusedError,
    LinkError,
    NotActivatedError,
    RunEndedError,
    TooLargeError,
    UnreachableError,
    UntrustedError,
    WrongClockError,
)
from support.answering import answering
from support.identities import key_pair, make_server, server


def refusal(port: int, ca_certificate: str | None = None) -> LinkError:
    link = Link(
        f"localhost:{port}", ca_certificate or server().ca_certificate, key_pair()[0], timeout_s=5
    )
    try:
        with pytest.raises(LinkError) as refused:
            link.activate()
    finally:
        link.close()
    return refused.value


def test_nobody_listening_is_unreachable() -> None:
    refused = refusal(1)
    assert type(refused) is UnreachableError
    assert str(refused) == "Connection refused"


def test_a_certificate_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    with answering(tmp_path, 200, identity=make_server()) as port:
        refused = refusal(port)
    assert isinstance(refused, UntrustedError)
    assert "certificate" in str(refused)


def test_an_expired_certificate_is_not_trusted_and_said_to_be_expired(tmp_path: Path) -> None:
    expired = make_server(days_left=-1)
    with answering(tmp_path, 200, identity=expired) as port:
        refused = refusal(port, expired.ca_certificate)
    assert isinstance(refused, UntrustedError)
    assert "certificate has expired" in str(refused)


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (412, b'{"code": 2004, "detail": "no"}', NotActivatedError, "2004"),
        (403, b'{"code": 2007, "detail": "over"}', RunEndedError, "2007"),
        (403, b"<html>proxy</html>", UnreachableError, "HTTP status 403 at /v1/fleet/"),
        (404, b"", UnreachableError, "HTTP status 404"),
        (502, b"", UnreachableError, "its SuperLink does not answer the proxy (HTTP status 502)"),
        (401, b"{}", KeyRefusedError, "does not know its key"),
        (200, b"\xff\xff\xff", UnreachableError, "invalid response, not from a SuperLink"),
    ],
)
def test_each_refusal_has_its_kind(
    tmp_path: Path, status: int, body: bytes, kind: type[LinkError], sentence: str
) -> None:
    with answering(tmp_path, status, body) as port:
        refused = refusal(port)
    assert type(refused) is kind
    assert sentence in str(refused)


@pytest.mark.parametrize("body", [b"", b"\0\0\0\1\xff", b"\0\0\0\0" * 3, b"x"])
def test_a_malformed_answer_to_a_combined_call_is_not_from_a_superlink(
    tmp_path: Path, body: bytes
) -> None:
    with answering(tmp_path, 200, body) as port:
        link = Link(f"localhost:{port}", server().ca_certificate, key_pair()[0], timeout_s=5)
        try:
            with pytest.raises(UnreachableError, match="invalid response, not from a SuperLink"):
                link.wait(1, 0.0)
            if body != b"\0\0\0\0" * 3:  # no message, and two objects that are empty
                with pytest.raises(UnreachableError, match="not from a SuperLink"):
                    link.pull(1)
        finally:
            link.close()


def test_an_answer_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with answering(tmp_path, 200, bytes(3 * 2**20)) as port:
        link = Link(f"localhost:{port}", server().ca_certificate, key_pair()[0], most_mib=lambda: 2)
        try:
            with pytest.raises(TooLargeError, match="3 MiB or more were sent, 2 MiB are taken"):
                link.activate()
        finally:
            link.close()


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Length": "21", "Content-Encoding": "gzip"}], ids=["length", "gzip"]
)
def test_an_answer_of_unknown_size_is_refused_before_it_is_read(headers: dict[str, str]) -> None:
    link = Link("localhost:1", server().ca_certificate, key_pair()[0])
    try:
        with pytest.raises(UnreachableError, match="its size is not known"):
            link._check_size(httpx.Response(200, headers=headers))
    finally:
        link.close()


@pytest.mark.parametrize(("ahead_s", "side"), [(3600, "behind"), (-3600, "ahead of")])
def test_a_refusal_for_a_wrong_clock_says_how_wrong(
    tmp_path: Path, ahead_s: float, side: str
) -> None:
    with answering(tmp_path, 401, b"{}", ahead_s=ahead_s) as port:
        refused = refusal(port)
    assert isinstance(refused, WrongClockError)
    assert f"its clock is 60 minutes {side} the coordinator's: start NTP" in str(refused)


@pytest.mark.parametrize(("days", "side"), [(40, "behind"), (-40, "ahead of")])
def test_a_certificate_that_is_not_valid_for_a_wrong_clock_says_how_wrong(
    tmp_path: Path, days: float, side: str
) -> None:
    expired = make_server(days_left=-1)
    with answering(tmp_path, 200, identity=expired, ahead_s=86400.0 * days) as port:
        refused = refusal(port, expired.ca_certificate)
    assert isinstance(refused, WrongClockError)
    assert f"its clock is 40 days {side} the coordinator's" in str(refused)
    assert "certificate has expired" in str(refused)
