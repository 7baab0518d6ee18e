"""Which settings belong to which mode of the server and to which way of selecting clients."""

from __future__ import annotations

from fieldtune.server.study.limit_options import LimitsSection
from fieldtune.server.study.private_averaging import is_private
from fieldtune.server.study.server_options import USED_BY_MODE, USED_BY_SELECTION, ServerSection
from fieldtune.server.study.space import Space
from fieldtune.server.study.study_options import StudySection


def check_modes(server: ServerSection, space: Space, clients: int, *, explores: bool) -> None:
    """Raise ValueError for settings that the study does not use, or that exclude each other.

    Args:
        server: ``[server]``.
        space: the search space.
        clients: of the fleet.
        explores: whether the tuner is ``fedex``.
    """
    for name in space.server:
        for key, used_by in (("mode", USED_BY_MODE), ("selection", USED_BY_SELECTION)):
            known: tuple[str, ...] = used_by.get(name, ())
            if known and getattr(server, key) not in known:
                raise ValueError(
                    f"space.server.{name} is not used with server.{key} = "
                    f"{getattr(server, key)!r}: leave it out, or set server.{key} to "
                    f"{' or '.join(map(repr, known))}"
                )
    if server.mode == "async" and (server.aggregation != "mean" or "aggregation" in space.server):
        raise ValueError(
            "server.mode = 'async' uses one update at a time, and server.aggregation chooses among "
            "several: leave it at 'mean', or set server.mode to 'buffered'"
        )
    used = {"mode": server.mode, "selection": server.selection}
    waits = [
        *(f"server.{key} = {value!r}" for key, value in used.items()
          if value not in ("sync", "uniform")),
        *(f"space.server.{n}" for n in ("over_selection", "deadline_s") if n in space.server),
    ]  # fmt: skip
    if explores and waits:
        raise ValueError(
            "tuner.name = 'fedex' waits for all clients of a round, which are drawn uniformly, "
            f"and cannot have {waits[0]}: leave it out, or choose another tuner"
        )
    if is_private(space.server) and waits:
        raise ValueError(
            "space.server has dp_noise, for which each client must take part in a round with the "
            f"same known probability, and cannot have {waits[0]}: leave one of them out"
        )
    sampled = server.evaluate_clients
    if sampled is not None and sampled > clients:
        raise ValueError(
            f"server.evaluate_clients is {sampled}, but the fleet has {clients} clients: leave it "
            "out to have all of them evaluate"
        )


def check_target(study: StudySection, limits: LimitsSection, *, explores: bool) -> None:
    """Raise ValueError where the time to an error is asked for without what it needs.

    Args:
        study: ``[study]``.
        limits: ``[limits]``.
        explores: whether the tuner is ``fedex``.
    """
    asked = any(objective.name == "time_to_error_h" for objective in study.objectives)
    for name, value in (
        ("study.target_error", study.target_error),
        ("study.evaluate_every", study.evaluate_every),
        ("limits.time_h", limits.time_h),
    ):
        if asked and value is None:
            raise ValueError(
                f"study.objectives has 'time_to_error_h', which needs {name}: set it (a training "
                "that does not reach the error counts with twice limits.time_h)"
            )
    if study.target_error is not None and (limits.time_h is None or study.evaluate_every is None):
        raise ValueError(
            "study.target_error is set, and time_to_error_h needs study.evaluate_every and "
            "limits.time_h too: set them, or leave it out"
        )
    if explores and study.evaluate_every is not None:
        raise ValueError(
            "study.evaluate_every is set, and tuner.name = 'fedex' evaluates its model at the end "
            "only: leave it out (and study.target_error), or choose another tuner"
        )
    if study.evaluate_every is not None and study.evaluate_every >= study.rounds:
        raise ValueError(
            f"study.evaluate_every is {study.evaluate_every}, but a trial has {study.rounds} "
            "rounds, after which it is evaluated anyway: make it smaller, or leave it out"
        )
