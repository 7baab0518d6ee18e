"""Small studies of the digits for a few devices of two types."""

from __future__ import annotations

from pathlib import Path

from fieldtune.client.data.client_data import ClientData
from fieldtune.server.study.load import load_study
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from fieldtune.simulations.partition.partition import partition

_STUDY = """\
[study]
name = "digits"
trials = {trials}
rounds = {rounds}
objectives = ["error", "sent_bytes"]

[task]
data = "digits"
model = "mlp"
metric = "{metric}"
variants = ["fp32"]

[fleet]
clients = {clients}
devices = {{ {devices} }}

[limits]
round_s = 300
coverage = 0.5

[space.model]
width = {{ choices = [8, 16] }}

[space.client]
learning_rate = {{ low = 0.01, high = 1.0, log = true, default = 0.1 }}
local_epochs = {{ low = 1, high = 4 }}

[space.server]
clients_per_round = {{ low = {least}, high = {clients}, default = {clients} }}
"""


def digits(
    folder: Path,
    *,
    clients: int,
    trials: int,
    rounds: int,
    least: int = 1,
    metric: str = "accuracy",
    devices: str = '"raspberry-pi-4b" = 0.5, "raspberry-pi-5" = 0.5',
) -> Path:
    """A study file; its objectives depend on nothing that a device measures.

    Args:
        folder: where.
        clients: devices.
        trials: to train.
        rounds: of each.
        least: clients that train in a round.
        metric: as a study names it.
        devices: types and shares, as in a study file.
    """
    file = folder / "digits.toml"
    file.write_text(
        _STUDY.format(
            clients=clients, trials=trials, rounds=rounds, least=least, metric=metric,
            devices=devices,
        )
    )  # fmt: skip
    return file


def dealt_data(study: Path) -> list[tuple[ClientData, str]]:
    """The data and the device type of each of a study's clients, as the simulator has them."""
    plan = FleetPlan.of(load_study(study))
    profiles = assign_devices(plan.devices, plan.clients, plan.seed)
    return list(zip(partition(load_dataset(plan.data), plan), profiles, strict=True))


def changed(study: Path, folder: Path, old: str, new: str) -> Path:
    """A copy of a study file in a folder, with one text replaced."""
    text = study.read_text()
    assert old in text
    file = folder / "study.toml"
    file.write_text(text.replace(old, new, 1))
    return file
