"""Flower and PyTorch as peers of the simulation engine (:mod:`engine_peers`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from engine_tasks import BATCH, CLIENTS, LEARNING_RATE, MOMENTUM, TRAINED, Layers, Task, mean
from numpy.typing import NDArray


class Trainer(Protocol):
    """Trains one client."""

    def train(self, layers: Layers, client: int, number: int) -> Layers:
        """The weights of one client after its epoch."""


class Torch:
    """PyTorch as it is commonly used: modules, and an optimizer for each client."""

    name = "PyTorch"

    def __init__(self, task: Task) -> None:
        import torch

        torch.set_num_threads(1)
        self._task = task
        self._x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(task.x, -1, 2)))
        self._y = torch.from_numpy(task.y.astype(np.int64))
        self._model = _module(task.layers)

    def round(self, layers: Layers, number: int) -> Layers:
        """One round."""
        return mean([self.train(layers, client, number) for client in range(CLIENTS)])

    def train(self, layers: Layers, client: int, number: int) -> Layers:
        """The weights of one client after its epoch."""
        import torch

        parameters = list(self._model.parameters())
        with torch.no_grad():
            for parameter, layer in zip(parameters, layers, strict=True):
                parameter.copy_(torch.tensor(_turned(layer)))
        order = torch.from_numpy(self._task.order(client, number))
        x, y = self._x[client][order], self._y[client][order]
        optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
        loss = torch.nn.CrossEntropyLoss()
        for start in range(0, TRAINED, BATCH):
            optimizer.zero_grad()
            loss(self._model(x[start : start + BATCH]), y[start : start + BATCH]).backward()
            optimizer.step()
        return [_turned_back(each.detach().numpy()) for each in parameters]


def _module(layers: Layers) -> Any:
    """The network of these kernels and biases; it takes images with their channels first."""
    from torch import nn

    class ChannelsLast(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x.movedim(1, -1)

    parts: list[Any] = []
    kernels = layers[::2]
    for at, kernel in enumerate(kernels):
        if kernel.ndim == 4:
            *_, inputs, outputs = kernel.shape
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            continue
        if not at or kernels[at - 1].ndim == 4:
            parts += [ChannelsLast(), nn.Flatten()]
        parts += [nn.Linear(*kernel.shape), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _turned(layer: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel as PyTorch has it: ``[out, in, ...]``."""
    return layer.transpose(3, 2, 0, 1) if layer.ndim == 4 else layer.T


def _turned_back(layer: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of a kernel as it was before."""
    return np.array(layer.transpose(2, 3, 1, 0) if layer.ndim == 4 else layer.T)


def _app(trainer: Trainer) -> Any:
    """Flower's ClientApp around a trainer."""
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content.config_records["config"]
        trained = trainer.train(
            _layers_of(message.content), int(str(config["client"])), int(str(config["round"]))
        )
        return Message(RecordDict({"weights": _record(trained)}), reply_to=message)

    return app


def _record(layers: Layers) -> Any:
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({str(n): Array(layer) for n, layer in enumerate(layers)})


def _layers_of(content: Any) -> Layers:
    arrays: dict[str, Any] = dict(content.array_records["weights"])
    return [arrays[str(n)].numpy() for n in range(len(arrays))]


def _request(layers: Layers, client: int, number: int) -> Any:
    from flwr.app import ConfigRecord, Message, RecordDict

    content = RecordDict({"weights": _record(layers)})
    content["config"] = ConfigRecord({"client": client, "round": number})
    return Message(content, 1, "train")


class FlowerInProcess:
    """A ClientApp in this process; messages travel as bytes, as they do in Flower."""

    def __init__(self, task: Task, make: Callable[[Task], Trainer], inside: str) -> None:
        from flwr.app import Context, RecordDict

        from fieldtune.client.node.fleet_api import (
            identify_process,
            message_from_bytes,
            message_to_bytes,
        )

        identify_process(1, 1)
        self.name, app = f"Flower ClientApp ({inside})", _app(make(task))

        def answered(layers: Layers, client: int, number: int) -> Layers:
            sent = message_to_bytes(_request(layers, client, number))
            context = Context(1, 1, {}, RecordDict(), {})
            reply = message_to_bytes(app(message_from_bytes(sent), context))
            return _layers_of(message_from_bytes(reply).content)

        self._answered = answered

    def round(self, layers: Layers, number: int) -> Layers:
        """One round."""
        return mean([self._answered(layers, client, number) for client in range(CLIENTS)])


@cache
def _app_in_actor(task: Any, make: Callable[[Task], Trainer]) -> Any:
    """The app, made once in each actor: to load the data is no part of a round."""
    import ray

    return _app(make(ray.get(task)))


class FlowerRay:
    """The same ClientApp in two actors of Flower's Ray backend, which simulations use."""

    def __init__(self, task: Task, make: Callable[[Task], Trainer], inside: str) -> None:
        import ray
        from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend

        from fieldtune.client.node.fleet_api import identify_process

        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        identify_process(1, 1)
        self.name = f"Flower's Ray, 2 actors ({inside})"
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "num_cpus": 2}
        config: Any = {"init_args": quiet, "client_resources": {"num_cpus": 1}}
        self._backend: Any = RayBackend(config)
        data = ray.put(task)
        self._backend.build(partial(_app_in_actor, data, make))
        self._threads = ThreadPoolExecutor(2)
        self.round(task.layers, 0)  # so that the actors' processes are there

    def close(self) -> None:
        """Stop Ray."""
        self._threads.shutdown()
        self._backend.terminate()

    def round(self, layers: Layers, number: int) -> Layers:
        """One round."""
        from flwr.app import Context, RecordDict

        def answered(client: int) -> Layers:
            context = Context(1, 1, {"partition-id": client}, RecordDict(), {})
            message = _request(layers, client, number)
            return _layers_of(self._backend.process_message(message, context)[0].content)

        answers: Iterator[Layers] = self._threads.map(answered, range(CLIENTS))
        return mean(list(answers))
