"""The ClientApp that Flower's own SuperNode loads by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.supercore.object_ref import load_app

from fieldtune.client.contract.messages import Description
from fieldtune.client.node.fleet_api import identify_process


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientApp:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = load_app("fieldtune.client.supernode:app", ValueError, None)
    assert isinstance(loaded, ClientApp)
    return loaded


def described(app: ClientApp, config: UserConfig) -> Description:
    identify_process(1, 1)
    reply = app(Message(RecordDict(), 1, "query.describe"), Context(1, 1, config, RecordDict(), {}))
    return Description.parse(dict(reply.content.config_records["message"]))


def test_the_nodes_configuration_says_who_it_is_and_where_its_data_is(
    app: ClientApp, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 3)), y=np.arange(8) % 2)
    config: UserConfig = {"name": "attic", "profile": "raspberry-pi-5", "data": str(tmp_path)}
    said = described(app, config)
    assert (said.name, said.profile, said.train_samples) == ("attic", "raspberry-pi-5", 6)


def test_a_node_that_is_not_told_where_its_data_is_says_what_to_add(app: ClientApp) -> None:
    assert 'add data="PATH"' in described(app, {"name": "attic"}).problem
