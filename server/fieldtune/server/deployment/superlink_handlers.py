"""Names of Flower that are imported in SuperLink's own process only.

:mod:`fieldtune.server.deployment.combined_calls` uses them to do the work of several of Flower's
calls in one. They hold for the versions in ``fieldtune.client.node.fleet_api.FLOWER_VERSIONS``.
"""

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PushObjectRequest
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
)
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.dependencies.task import authenticate_task
from flwr.supercore.error import FlowerError, http_error_translator
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.sql_mixin import SqlMixin
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import DecodeError

__all__ = [
    "HEARTBEAT_DEFAULT_INTERVAL",
    "TASK_TOKEN_HEADER",
    "ConfirmMessageReceivedRequest",
    "DecodeError",
    "FlowerError",
    "ObjectTree",
    "PullAppMessagesRequest",
    "PullAppMessagesResponse",
    "PullMessagesRequest",
    "PushAppMessagesRequest",
    "PushMessagesRequest",
    "PushObjectRequest",
    "SendNodeHeartbeatRequest",
    "SqlMixin",
    "authenticate_node",
    "authenticate_task",
    "fleet_handlers",
    "http_error_translator",
    "iterate_object_tree",
    "runtime_handlers",
]
