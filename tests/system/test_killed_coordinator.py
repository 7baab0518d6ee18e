"""A coordinator that is killed leaves nothing behind that keeps it from being started again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fieldtune.server.deployment.settings import listens
from support.deployment import Deployment, needs_nginx, wait_until

pytestmark = [pytest.mark.system, needs_nginx]


def test_superlink_and_the_proxy_end_with_a_coordinator_that_is_killed(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    made.init()
    try:
        made.start()
        assert made.coordinator.end(signal.SIGKILL) == -signal.SIGKILL
        for port in (made.superlink_port, made.port):
            wait_until(lambda port=port: not listens(port), "it still listens", 60.0)
        made.start()
    finally:
        made.end()
