"""A worker of the simulator: ``python -m fieldtune.simulations.fleet.worker FD``.

Runs the ClientApp of a simulated fleet on incoming messages until the connection is closed.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from flwr.app import Error, Message

from fieldtune.client.node.fleet_api import identify_process, message_from_bytes, message_to_bytes
from fieldtune.profiles.common.errors import DataError
from fieldtune.server.processes.child import pack_frame, parent_connection, unpack_frame
from fieldtune.simulations.fleet.plan import RUN_ID, FleetPlan, SimulatedFleet

_CLIENT_APP_RAISED = 2  # Flower's error code


def serve(connection: Connection) -> None:
    """Receive frames of messages and send frames of replies."""
    setup, _ = unpack_frame(connection.recv_bytes())
    sys.path[:0] = setup["import_path"]
    try:
        fleet = SimulatedFleet(FleetPlan.from_json(setup["plan"]))
        facts = fleet.facts() if setup["asks_for_facts"] else None
    except DataError as refused:
        connection.send_bytes(pack_frame({"data_error": str(refused)}))
        return
    connection.send_bytes(pack_frame({"facts": facts}))
    while True:
        try:
            _, frames = unpack_frame(connection.recv_bytes())
        except (EOFError, OSError):
            return
        connection.send_bytes(pack_frame({}, [answer(fleet, frame) for frame in frames]))


def answer(fleet: SimulatedFleet, frame: bytes) -> bytes:
    """The reply of a message's destination node; an exception becomes Flower's error 2."""
    message = message_from_bytes(frame)
    node = message.metadata.dst_node_id
    identify_process(RUN_ID, node)
    try:
        reply = fleet.app(message, fleet.contexts[node])
    except Exception as raised:  # a user's data or metric function may raise anything
        reason = f"{type(raised).__name__}: {raised}"
        reply = Message(Error(code=_CLIENT_APP_RAISED, reason=reason), reply_to=message)
    return message_to_bytes(reply)


if __name__ == "__main__":
    serve(parent_connection(sys.argv))
