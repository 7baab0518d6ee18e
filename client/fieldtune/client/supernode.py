"""The same ClientApp for Flower's own SuperNode, configured by ``--node-config``.

A SuperNode starts a new process for each message, so nothing stays in memory between messages;
artefacts are cached on the device's disk. The configuration has ``name``, ``profile`` and ``data``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from fieldtune.client.contract.version import INLINE
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.files import DeviceData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.node.artefact_cache import ArtefactFolder
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.state import ClientFolders
from fieldtune.client.training.runtime import Sessions
from fieldtune.client.training.trial_run import try_first
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.host.probe import probe


def _data(node_config: Mapping[str, object]) -> ClientData:
    where = node_config.get("data")
    if not isinstance(where, str):
        raise DataError('--node-config has no path of the data: add data="PATH"')
    return _source(where)()


def _privacy(node_config: Mapping[str, object]) -> Privacy:
    return _source(str(node_config.get("data"))).privacy()


_source = cache(DeviceData)


app = make_client_app(
    _data,
    sessions=Sessions(1, ArtefactFolder(ClientFolders.of("supernode").cache), try_first),
    board=probe(),
    privacy_of=_privacy,
    # A mod of its owner's around it, such as Flower's LocalDpMod, looks for records of arrays.
    contract=INLINE - 1,
)
