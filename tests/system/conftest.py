"""A deployment that a module's tests share; what starts and stops things makes its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deployment import Deployment, add_devices
from support.studies import digits


@pytest.fixture(scope="session")
def fleet_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits in small: 8 trials of 3 rounds on four devices of two types."""
    return digits(tmp_path_factory.mktemp("study"), clients=4, trials=8, rounds=3)


@pytest.fixture(scope="module")
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fleet_study: Path
) -> Iterator[Deployment]:
    """A coordinator behind its proxy, and four devices that are connected."""
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.init(*["--any-client"] * getattr(request.module, "ANY_CLIENT", False))
    add_devices(made, fleet_study)
    with made.running():
        yield made
