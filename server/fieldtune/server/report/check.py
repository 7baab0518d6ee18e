"""``fieldtune check`` on paper: space, fleet, limits, and what the limits rule out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.table import Table

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.text import printable
from fieldtune.server.costs.budget import Budget
from fieldtune.server.costs.feasible_space import Screening
from fieldtune.server.report.format import budget, counted, in_percent, setting
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import SECTIONS, Parameter
from fieldtune.server.study.study_options import StudySection

_MOST_NAMED = 10
"""Classes that are named."""


def print_check(
    study: StudyConfig,
    members: Sequence[Description],
    screening: Screening,
    console: Console,
    facts: DataFacts | None = None,
    *,
    metric: str = "",
) -> None:
    """Print what a study is about and what its limits leave of it.

    Args:
        study: the study.
        members: its clients.
        screening: what the limits leave.
        console: where to.
        facts: of the data; None where they are not known.
        metric: what the metric is, and its chance level.
    """
    samples = sum(member.train_samples for member in members)
    tests = sum(member.test_samples for member in members)
    console.print(
        f"[bold]{study.study.name}[/]: {_size(study.study)}, "
        f"{study.study.parallel} in flight, {_aims(study.study.objectives)}",
        highlight=False,
    )
    if study.rungs:
        rounds = " and ".join(map(str, study.rungs))
        console.print(
            f"Early stopping after round {rounds}: one trial in {study.tuner.reduction:g} goes on",
            highlight=False,
        )
    console.print(
        f"Data {study.task.data}: {samples} training and {tests} test samples, "
        f"model {' or '.join(study.task.models)}",
        highlight=False,
    )
    for line in _data_lines(study, members, facts, metric) if facts else ():
        console.print(line, highlight=False, markup=False)

    space = _table("Space", "parameter", "goes to", "values", "default", wraps="values")
    full = study.full_space
    for section in SECTIONS:
        for name, parameter in getattr(full, section).items():
            default = setting(parameter.default_value())
            space.add_row(name, section, _values(parameter), default)
    console.print(space)

    fleet = _table("Fleet", "device", "clients", "fits on all of them")
    sizes = Counter(member.profile for member in members)
    for profile in sorted(sizes):
        share = screening.fitting.get(profile, 0) / screening.sampled
        fleet.add_row(profile, str(sizes[profile]), f"{in_percent(share)} of the space")
    console.print(fleet)

    limits = _table("Limits", "limit", "rules out")
    for limit in sorted(screening.tightest):
        if limit != "coverage":
            share = screening.ruled_out.get(limit, 0) / screening.sampled
            limits.add_row(limit, f"{in_percent(share)} of the space")
    console.print(limits)
    for reason in screening.not_compiled.values():
        console.print(f"Left out: {printable(reason)}", highlight=False, markup=False)
    console.print(
        f"{in_percent(len(screening.feasible) / screening.sampled)} of the space can be trained on "
        f"{100 * study.limits.coverage:g} % of the fleet "
        f"({counted(screening.sampled, 'configuration')} sampled, "
        f"{counted(screening.architectures, 'architecture')})",
        highlight=False,
    )


def _table(title: str, *headings: str, wraps: str = "") -> Table:
    """A table whose words stay whole: one column alone is broken, between words."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=heading != wraps)
    return table


def check_json(
    study: StudyConfig,
    members: Sequence[Description],
    screening: Screening,
    facts: DataFacts,
    metric: str,
) -> str:
    """What :func:`print_check` prints, as JSON: shares within 0..1, keys as in the study file."""
    sampled = max(screening.sampled, 1)
    clients = Counter(member.profile for member in members)
    return json.dumps(
        {
            "study": study.study.name,
            "data": asdict(facts) | {"labels": list(members[0].labels or ())},
            "metric": metric,
            "space": {
                name: {"section": section, **parameter.model_dump(mode="json")}
                for section in SECTIONS
                for name, parameter in getattr(study.full_space, section).items()
            },
            "fleet": {
                name: {"clients": clients[name], "fits": screening.fitting.get(name, 0) / sampled}
                for name in sorted(clients)
            },
            "ruled_out": {
                limit: screening.ruled_out.get(limit, 0) / sampled
                for limit in sorted(screening.tightest)
                if limit != "coverage"
            },
            "not_compiled": dict(screening.not_compiled),
            "feasible": len(screening.feasible) / sampled,
            "sampled": screening.sampled,
            "architectures": screening.architectures,
        },
        indent=1,
    )


def _data_lines(
    study: StudyConfig, members: Sequence[Description], facts: DataFacts, metric: str
) -> Iterator[str]:
    """Partition, classes, value range, metric and chance level."""
    held = [member.train_samples + member.test_samples for member in members]
    least, most = min(held), max(held)
    share = f"{least} samples" if least == most else f"{least} to {most} samples"
    yield f"Samples were distributed {facts.partition}; a client holds {share}"
    counts = np.array(facts.class_samples)
    shares = 100 * counts / counts.sum()
    if not study.task.reconstructs:
        yield f"{_classes(members)} of {shares.min():.1f} to {shares.max():.1f} % of the samples"
    yield f"Values of the samples go from {facts.low:.4g} to {facts.high:.4g}"
    yield f"Metric {metric}"


def _classes(members: Sequence[Description]) -> str:
    """How many classes there are, and the names of a few of them."""
    classes, labels = members[0].classes, members[0].labels or ()
    if not labels:
        return f"{classes} classes"
    more = ", ..." if len(labels) > _MOST_NAMED else ""
    return f"{classes} classes ({', '.join(map(printable, labels[:_MOST_NAMED]))}{more})"


def _size(study: StudySection) -> str:
    """How many trials of how many rounds, within which budgets."""
    budgets = [budget(each) for each in Budget(study).accounts(0, []) if each.name != "trials"]
    trials = "trials" if study.trials is None else f"{study.trials} trials"
    within = " and ".join(budgets)
    return f"{trials} of {study.rounds} rounds" + (f" within {within}" if within else "")


def _values(parameter: Parameter) -> str:
    if parameter.choices is not None:
        return ", ".join(map(setting, parameter.choices))
    low, high = parameter.bounds()
    return f"{low:g} .. {high:g}{' (log)' if parameter.log else ''}"


def _aims(objectives: Sequence[Objective]) -> str:
    """``minimising error, energy_j, maximising recall``."""
    aims = {"minimising": [o.name for o in objectives if not o.maximised],
            "maximising": [o.name for o in objectives if o.maximised]}  # fmt: skip
    return ", ".join(f"{verb} {', '.join(names)}" for verb, names in aims.items() if names)
