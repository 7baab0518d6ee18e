"""A deployment that the tests of this folder share; what starts and stops things makes its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import ROOT
from fieldtune.server.studyfile import load_study
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet import FleetPlan, assign_devices
from fieldtune.simulations.partition import partition
from network.deployment import Deployment


@pytest.fixture(scope="session")
def fleet_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits study in small: 3 trials of 2 rounds on two devices of two types."""
    text = (ROOT / "simulations/studies/digits.toml").read_text()
    for old, new in (
        ("trials = 40", "trials = 3"),
        ("rounds = 20", "rounds = 2"),
        ('model = ["mlp", "cnn"]', 'model = "mlp"\nvariants = ["fp32"]'),
        ("clients = 100", "clients = 2"),
        ('"raspberry-pi-zero-2w" = 0.4, "raspberry-pi-4b" = 0.4, "raspberry-pi-5" = 0.2',
         '"raspberry-pi-4b" = 0.5, "raspberry-pi-5" = 0.5'),
        ('[limits."raspberry-pi-zero-2w"]\ninference_ms = 0.3\nenergy_j = 0.6\n', ""),
        ("low = 5, high = 30, default = 20", "low = 1, high = 2, default = 2"),
        ("round_s = 30", "round_s = 300"),
    ):  # fmt: skip
        assert old in text, old
        text = text.replace(old, new)
    file = tmp_path_factory.mktemp("study") / "digits.toml"
    file.write_text(text)
    return file


def add_devices(deployment: Deployment, study: Path) -> None:
    """The study's clients as devices, each with the data that the simulator would deal it."""
    plan = FleetPlan.of(load_study(study))
    profiles = assign_devices(plan.devices, plan.clients, plan.seed)
    dealt = partition(load_dataset(plan.data), plan)
    for number, (data, profile) in enumerate(zip(dealt, profiles, strict=True)):
        deployment.device(f"pi-{number}", data, profile)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory, fleet_study: Path) -> Iterator[Deployment]:
    """A coordinator behind its proxy, and two devices that are connected."""
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.init()
    add_devices(made, fleet_study)
    try:
        made.start()
        for device in made.devices.values():
            device.start()
        yield made
    finally:
        made.end()
