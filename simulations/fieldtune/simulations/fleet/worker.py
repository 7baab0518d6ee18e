"""A worker of the simulator: ``python -m fieldtune.simulations.fleet.worker FD``.

Answers requests for the clients of a simulated fleet until the connection is closed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from fieldtune.client.training.answer import Client, Report, Request, answer
from fieldtune.client.training.reports import failed
from fieldtune.client.training.runtime import Sessions, runtime_name
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.text import printable
from fieldtune.server.processes.child import parent_connection
from fieldtune.simulations.fleet.clients import SimulatedClients
from fieldtune.simulations.fleet.frames import KINDS, Before, Blob, pack, unpack
from fieldtune.simulations.fleet.plan import FleetPlan

_SESSIONS = 64


def serve(connection: Connection) -> None:
    """Receive frames of requests and send frames of reports."""
    setup = json.loads(connection.recv_bytes())
    sys.path[:0] = setup["import_path"]
    try:
        clients = SimulatedClients(FleetPlan.from_json(setup["plan"]))
        if setup["introduces"]:
            connection.send_bytes(_introduction(clients))
        else:
            connection.send_bytes(pack({"data_sha256": clients.checked_sha256()}))
    except DataError as refused:
        connection.send_bytes(pack({"data_error": printable(str(refused))}))
        return
    sessions, held = Sessions(_SESSIONS), dict[int, Blob]()
    while True:
        try:
            header, blobs = unpack(connection.recv_bytes())
        except (EOFError, OSError):
            return
        began_s = time.process_time()
        for number in header["drop"]:
            del held[number]
        new = header["new"]
        held.update(zip(new, blobs, strict=False))
        models, reports, results = blobs[len(new) :], [], list[Blob]()
        requests, replies = Before(), Before()
        for first, kind, number, small, large, model in header["requests"]:
            if changed := {**small, **{name: held[at] for name, at in large.items()}}:
                request = requests.whole(KINDS[kind], first, changed)
            asked = request
            if model is not None:
                asked = request.model_copy(update={"model": models[model]})
            first, small, values = replies.apart(answered(asked, clients[number], sessions))
            reports.append((first, small, list(values)))
            results += values.values()
        cpu_s = time.process_time() - began_s
        connection.send_bytes(pack({"reports": reports, "cpu_s": cpu_s}, results))


def answered(request: Request, client: Client, sessions: Sessions) -> Report:
    """A client's report; a failure also where the user's data or metric raises an exception."""
    try:
        return answer(request, client, sessions)
    except Exception as raised:
        return failed(request, "error", printable(f"{type(raised).__name__}: {raised}", 500))


def _introduction(clients: SimulatedClients) -> bytes:
    header = {"facts": clients.facts(), "kind": {**clients.kind(), "runtime": runtime_name()}}
    sizes: Sequence[Blob] = clients.sizes()
    return pack(header, sizes)


if __name__ == "__main__":
    serve(parent_connection(sys.argv))
