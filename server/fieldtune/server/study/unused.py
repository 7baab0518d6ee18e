"""Settings of a study file that have no effect beside its others, each as a sentence.

They are not refused: studies that have been run with them can be opened and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator

from fieldtune.server.study.algorithms import values
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.private_averaging import is_private

_USE_SHARE = ("trimmed_mean", "krum", "multi_krum")
"""Rules of aggregation that use ``malicious_share``."""


def unused_settings(study: StudyConfig, *, on_devices: bool = False) -> Iterator[str]:
    """A sentence for each setting that the file gives and the study does not use.

    Args:
        study: the study.
        on_devices: whether its devices are real.
    """
    server, space = study.server, study.space.server
    given = server.model_fields_set
    rules = values(space, "aggregation") or (server.aggregation,)
    if "malicious_share" in given and not {*rules} & {*_USE_SHARE}:
        yield _unused(
            "server.malicious_share", f"aggregation = {', '.join(map(repr, rules))}",
            f"it is a setting of {', '.join(map(repr, _USE_SHARE))}",
        )  # fmt: skip
    if is_private(space):
        for name in ("clip", "check_direction"):
            if name in given and getattr(server, name):
                why = "updates are clipped to dp_clip and not compared"
                yield _unused(f"server.{name}", "space.server.dp_noise", why)
    elif "check_direction" in given and server.check_direction and server.mode == "async":
        why = "which has one update at a time and so none to compare it with"
        yield f"server.check_direction has no effect with server.mode = 'async', {why}"
    if "dp_delta" in given and not is_private(space):
        yield "server.dp_delta has no effect without dp_clip and dp_noise in [space.server]"
    optimizers = values(space, "server_optimizer")
    if "server_momentum" in space and optimizers and "sgd" not in optimizers:
        chosen = f"server_optimizer = {', '.join(map(repr, optimizers))}"
        yield _unused("space.server.server_momentum", chosen, "it is a setting of 'sgd'")
    if on_devices:
        if study.task.labels:
            yield "task.labels has no effect on real devices: data.toml names their classes"
        for name in ("availability", "faults"):
            if getattr(study.fleet, name) is not None:
                yield f"fleet.{name} has no effect on real devices: it is of simulated ones"
    elif faults := study.fleet.faults:
        if "throttling_factor" in faults.model_fields_set and not faults.throttling:
            yield "fleet.faults.throttling_factor has no effect while throttling is 0: set that too"
        if "noticed_s" in faults.model_fields_set and not faults.dropout + faults.lost_upload:
            yield (
                "fleet.faults.noticed_s has no effect while dropout and lost_upload are 0: set one "
                "of them too"
            )


def _unused(name: str, beside: str, why: str) -> str:
    return f"{name} has no effect with {beside}: {why}"
