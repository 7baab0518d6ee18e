"""The simulator's fleet keeps the contract of all fleets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fieldtune.server.federation.grid_fleet import GridFleet
from fieldtune.server.study.load import load_study
from fieldtune.simulations.fleet.grid import SimulationGrid
from fieldtune.simulations.fleet.plan import FleetPlan
from support.fleet_contract import FleetContract, Opened
from support.studies import digits

pytestmark = pytest.mark.integration


@pytest.fixture(scope="class")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("fleet")
    study = digits(folder, clients=4, trials=1, rounds=1)
    plan, log = FleetPlan.of(load_study(study)), folder / "workers.log"
    with SimulationGrid(plan, workers=2, import_path=[], log=log) as grid:
        yield Opened.of(GridFleet(grid), study)


class TestSimulatedFleet(FleetContract):
    pass
