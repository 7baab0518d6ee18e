"""Which settings of the federated algorithm exclude each other."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.server.study.server_options import USED_BY_OPTIMIZER, ServerSection
from fieldtune.server.study.space import Parameter, Space, Value
from fieldtune.server.study.task_options import TaskSection
from fieldtune.server.study.tuner_options import TunerSection


def check_algorithms(
    server: ServerSection, task: TaskSection, tuner: TunerSection, space: Space
) -> None:
    """Raise ValueError for settings that do not work together."""
    if "aggregation" in space.server and "aggregation" in server.model_fields_set:
        raise ValueError("aggregation is set in both [server] and [space.server]: keep one of them")
    rules = values(space.server, "aggregation") or (server.aggregation,)
    if "qfedavg" in rules and tuner.exploration:
        raise ValueError(
            "aggregation = 'qfedavg' needs one learning rate for all clients of a round, and with "
            "tuner.name = 'fedex' they differ: choose one of the two"
        )
    if "fairness" in space.server and "qfedavg" not in rules:
        raise ValueError(
            "space.server.fairness is a setting of aggregation = 'qfedavg': set that too"
        )
    optimizers = values(space.server, "server_optimizer") or ("sgd",)
    for name, used_by in USED_BY_OPTIMIZER.items():
        if name in space.server and not {*used_by} & {*optimizers}:
            raise ValueError(
                f"space.server.{name} is not used with server_optimizer = "
                f"{', '.join(map(repr, optimizers))}: leave it out, or add "
                f"{' or '.join(map(repr, used_by))} to space.server.server_optimizer"
            )
    if "topk_share" in space.client and "topk" not in values(space.client, "update"):
        raise ValueError("space.client.topk_share is a setting of update = 'topk': set that too")
    if "scaffold" in values(space.client, "drift_correction"):
        _check_scaffold(server, task, space)


def _check_scaffold(server: ServerSection, task: TaskSection, space: Space) -> None:
    """SCAFFOLD's correction resets the optimizer's state, so there may be none."""
    what = "space.client.drift_correction = 'scaffold'"
    if task.optimizer != "sgd":
        raise ValueError(
            f"{what} corrects steps of SGD, and task.optimizer is {task.optimizer!r}: set it to "
            "'sgd', or leave the correction out"
        )
    if server.mode != "sync":
        raise ValueError(
            f"{what} needs rounds, and server.mode is {server.mode!r}: set it to 'sync', or leave "
            "the correction out"
        )
    if "dp_noise" in space.server:
        raise ValueError(
            f"{what} sends each client what follows from the others' updates without the noise of "
            "space.server.dp_noise: leave one of them out"
        )
    if 0 in values(space.client, "learning_rate"):
        raise ValueError(
            f"{what} divides by the learning rate, which may be 0: let space.client.learning_rate "
            "be above 0, or leave the correction out"
        )
    for name in ("momentum", "proximal"):
        if any(values(space.client, name)):
            raise ValueError(
                f"{what} is not exact with {name} above 0: leave out space.client.{name} or the "
                "correction"
            )


def values(section: Mapping[str, Parameter], name: str) -> tuple[Value, ...]:
    """The choices of a parameter, or the ends of its range; none where it is left out."""
    parameter = section.get(name)
    return () if parameter is None else parameter.extremes()
