"""What Flower's strategies make of the same updates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fieldtune.client.node.fleet_api import identify_process
from fieldtune.server.federation.server_optimizer import Update


def flowers_answer(
    strategy: Any, updates: Sequence[Update], start: np.ndarray | None = None, number: int = 1
) -> np.ndarray:
    """The weights that a strategy makes of a round's updates.

    Args:
        strategy: of ``flwr.serverapp.strategy``.
        updates: of the clients.
        start: the weights that the round began with, for strategies that need them.
        number: of the round, from 1.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    identify_process(1, 1)
    if start is not None:
        strategy.fraction_train = 0.0  # it keeps the weights and asks nobody
        arrays = ArrayRecord({"all": Array(start)})
        list(strategy.configure_train(number, arrays, ConfigRecord(), None))
    replies = []
    for node, each in enumerate(updates):
        asked = Message(RecordDict(), node, "train")
        metrics = {"num-examples": int(each.samples), "train_loss": each.loss or 0.0}
        content = RecordDict(
            {
                "arrays": ArrayRecord({"all": Array(each.weights)}),
                "metrics": MetricRecord(metrics),
            }
        )
        replies.append(Message(content, reply_to=asked))
    with patch("gc.collect"):  # Flower collects garbage once a message, in vain here
        arrays, _ = strategy.aggregate_train(number, replies)
    return np.asarray(arrays["all"].numpy())
