"""The simulator's fleet keeps the contract of all fleets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fieldtune.server.study.load import load_study
from fieldtune.simulations.fleet.fleet import SimulatedFleet
from fieldtune.simulations.fleet.plan import FleetPlan
from support.fleet_contract import FleetContract, Opened
from support.studies import digits

pytestmark = pytest.mark.integration


@pytest.fixture(scope="class")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("fleet")
    study = digits(folder, clients=4, trials=1, rounds=1)
    plan, log = FleetPlan.of(load_study(study)), folder / "workers.log"
    with SimulatedFleet(plan, workers=2, import_path=[], log=log) as fleet:
        yield Opened.of(fleet, study)


@pytest.fixture(autouse=True)
def nothing_is_kept(opened: Opened) -> Iterator[None]:
    """Weights are held no longer than requests use them."""
    yield
    assert isinstance(opened.fleet, SimulatedFleet)
    if not opened.fleet._closed:
        pool = opened.fleet._pool
        assert len(pool._numbered) == 0
        assert not any(worker.held for worker in pool._workers)


class TestSimulatedFleet(FleetContract):
    pass
