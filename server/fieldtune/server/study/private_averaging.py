"""Differentially private averaging: its settings in ``[space.server]``, and what excludes it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fieldtune.server.study.limit_options import LimitsSection
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.settings import server_settings
from fieldtune.server.study.space import Configuration, Space

_NAMES = ("dp_clip", "dp_noise")


@dataclass(frozen=True)
class PrivateAveraging:
    """DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963, algorithm 1).

    Attributes:
        clip: the Euclidean norm to which each update is scaled down.
        noise: standard deviation of the noise on the sum of the updates, as a multiple of ``clip``.
    """

    clip: float
    noise: float


def private_averaging(configuration: Configuration) -> PrivateAveraging | None:
    """That of a configuration; None where it averages without noise."""
    if not is_private(configuration.server):
        return None
    settings = server_settings(configuration)
    return PrivateAveraging(float(settings["dp_clip"]), float(settings["dp_noise"]))


def is_private(server: Collection[str]) -> bool:
    """Whether ``[space.server]``, or a configuration's values of it, have the settings."""
    return "dp_noise" in server


def check_private(
    server: ServerSection,
    limits: LimitsSection,
    space: Space,
    objectives: Collection[str],
    clients: int,
    *,
    explores: bool,
) -> None:
    """Raise ValueError for settings that do not work together.

    Args:
        server: ``[server]``.
        limits: ``[limits]``.
        space: of the study.
        objectives: names of its objectives.
        clients: of the fleet.
        explores: whether several client configurations share a training.
    """
    given = [name for name in _NAMES if name in space.server]
    if len(given) == 1:
        other = next(name for name in _NAMES if name not in given)
        raise ValueError(
            f"space.server has {given[0]} without {other}: the noise is a multiple of the norm to "
            "which updates are clipped, so set both"
        )
    if not given:
        for asked, where in (
            ("epsilon" in objectives, "study.objectives has 'epsilon'"),
            (limits.epsilon is not None, "limits.epsilon is set"),
        ):
            if asked:
                raise ValueError(
                    f"{where}, which is infinite without noise: set dp_clip and dp_noise in "
                    "[space.server]"
                )
        return
    if "aggregation" in space.server or server.aggregation != "mean":
        raise ValueError(
            "space.server has dp_noise, and aggregation is not 'mean': how much one device can "
            "move another rule is not known, so leave one of them out"
        )
    if explores:
        raise ValueError(
            "space.server has dp_noise with tuner.name = 'fedex', which uses each client's weights "
            "by themselves: choose another tuner"
        )
    if server.dp_delta * clients >= 1:
        raise ValueError(
            f"server.dp_delta = {server.dp_delta:g} would allow to publish one of {clients} "
            f"devices' data: it must be below {1 / clients:g}"
        )
    if "epsilon" in space.client and "epsilon" in objectives:
        raise ValueError(
            "'epsilon' is both an objective and a setting of space.client: leave the latter out"
        )
