"""Names outside of Flower's public API that the coordinator uses, imported in one place.

They hold for the versions in ``fieldtune.client.node.fleet_api.FLOWER_VERSIONS``;
``tests/server/deployment/test_flower.py`` tests what is used of them. The names that devices use
are in :mod:`fieldtune.client.node.fleet_api`: a board should not load SuperLink's Control and
Runtime APIs (protobuf over HTTP), which only the coordinator uses.
"""

from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SubStatus
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node as ProtoNode
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient

__all__ = [
    "SYSTEM_MESSAGE_TYPE",
    "AcquireTaskRequest",
    "ConfirmMessageReceivedRequest",
    "ControlHttpClient",
    "Fab",
    "GetNodesRequest",
    "ListNodesRequest",
    "ListRunsRequest",
    "NodeInfo",
    "ProtoNode",
    "PullAppMessagesRequest",
    "PullAppMessagesResponse",
    "PullObjectRequest",
    "PullTaskInputRequest",
    "PushAppMessagesRequest",
    "PushAppMessagesResponse",
    "PushMessagesRequest",
    "PushObjectRequest",
    "PushTaskOutputRequest",
    "RegisterNodeRequest",
    "RetryInvoker",
    "RuntimeHttpClient",
    "RuntimeTokenHttpInterceptor",
    "RuntimeVersionHttpInterceptor",
    "SendTaskHeartbeatRequest",
    "StartRunRequest",
    "StopRunRequest",
    "SubStatus",
    "SuperExecAuthHttpInterceptor",
    "TaskType",
    "UnregisterNodeRequest",
    "exponential",
    "get_all_nested_objects",
    "get_object_tree",
    "inflate_object_from_contents",
    "iterate_object_tree",
    "make_message",
    "message_from_proto",
    "message_to_proto",
    "no_object_id_recompute",
    "remove_content_from_message",
]
