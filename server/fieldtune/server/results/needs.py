"""What each point needs of each client, by which a reader's narrower limits are judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.coefficients import calls_per_round
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.outcomes.front import undominated
from fieldtune.server.results.schema import OnDevice, Point, Summary
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.settings import Algorithm, client_settings

MOST_DOMINATED = 200
"""So many dominated trials are all kept."""


def with_needs(
    summary: Summary, study: StudyConfig, costs: CostModel, calibration: Calibration
) -> Summary:
    """The summary with what its points need, and what samples clients have.

    Of many dominated trials, those are left that narrower limits may bring onto the front.

    Args:
        summary: of the study's outcomes.
        study: its space and limits.
        costs: knows the architectures of these points.
        calibration: with which the points' costs were computed.
    """
    groups = costs.fleet.groups

    def needing(point: Point) -> Point:
        configuration = study.full_space.configuration(point.configuration)
        if not costs.knows(configuration):
            return point
        architecture = costs.of_architecture(study.architecture(configuration), calibration)
        settings, devices = client_settings(configuration), dict[str, OnDevice]()
        if Algorithm.of(configuration, study.server).is_plain:
            needs = architecture.needs(configuration)
            for name, seen in point.devices.items():
                devices[name] = seen.model_copy(update={"needs": needs.get(name, {})})
        else:
            used = architecture.used(configuration)
            for name, seen in point.devices.items():
                own = [index for index, group in enumerate(groups) if group.profile == name]
                by_samples = {limit: each[own].tolist() for limit, each in used.items()}
                devices[name] = seen.model_copy(update={"used": by_samples})
        calls = int(settings["batch_size"]), int(settings["local_epochs"]), architecture.micro_batch
        return point.model_copy(update={"devices": devices, "calls": calls})

    samples: dict[str, list[tuple[int, int]]] = {}
    for group in groups:
        samples.setdefault(group.profile, []).append((group.samples, len(group.clients)))
    found = summary.model_copy(
        update={
            "front": [needing(point) for point in summary.front],
            "dominated": [needing(point) for point in summary.dominated],
            "defaults": summary.defaults and needing(summary.defaults),
            "samples": samples,
            "coverage": study.limits.coverage,
        }
    )
    return found if len(found.dominated) <= MOST_DOMINATED else without_hopeless(found)


def need_of(
    point: Point, device: str, limit: str, samples: Sequence[tuple[int, int]]
) -> list[float] | None:
    """What a client needs of a limit with each of these numbers of samples; None: not known."""
    seen: OnDevice = point.devices[device]
    if limit in seen.used:
        return list(seen.used[limit])
    if point.calls is None or limit not in seen.needs:
        return None
    constant, call, sample = seen.needs[limit]
    batch, epochs, micro_batch = point.calls
    return [
        constant + call * calls_per_round(count, batch, epochs, micro_batch) + sample * count
        for count, _ in samples
    ]


def without_hopeless(summary: Summary) -> Summary:
    """Without the dominated trials that narrower limits hardly bring onto the front.

    For these there is another trial that is no worse in anything learned, nor in any cost that is
    an objective on any device type, and that needs no more of any limit on any client.
    """
    points = sorted(summary.stored, key=lambda point: point.trial)
    rows = []
    for point in points:
        row = [e.sign * point.objectives[e.name].value for e in summary.objectives]
        for device, seen in point.devices.items():
            row += [
                cost.value
                for each in summary.objectives
                if not each.learned and (cost := seen.costs.get(each.name))
            ]
            for limit in {**seen.used, **seen.needs}:
                row += need_of(point, device, limit, summary.samples[device]) or []
        rows.append(row)
    length = max(map(len, rows), default=0)
    whole = [index for index, row in enumerate(rows) if len(row) == length]
    values = np.array([rows[index] for index in whole])
    # Many columns order the trials alike: needs that differ by what each client's samples take.
    ranks = [np.unique(column, return_inverse=True)[1] for column in values.T]
    distinct = np.unique(np.array(ranks, float), axis=0).T if ranks else values
    hopeful = {points[whole[index]].trial for index in undominated(distinct)}
    return summary.model_copy(
        update={
            "dominated": [point for point in summary.dominated if point.trial in hopeful],
            "recommended": {
                device: chosen.model_copy(
                    update={"dominated": [e for e in chosen.dominated if e.trial in hopeful]}
                )
                for device, chosen in summary.recommended.items()
            },
        }
    )
