"""What may be changed in a running study: limits, queue, budget, decision, a narrower space.

With any other change, the trials before and after it would not be comparable; so too with another
``limits.time_h``, at which trainings end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ConfigDict

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import SECTIONS, Parameter
from fieldtune.server.study.study_options import BUDGETS


class Change(BaseModel):
    """A key of the study file that was changed."""

    model_config = ConfigDict(frozen=True)

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} → {self.after}"


class Changes(BaseModel):
    """Keys that were changed together, and when."""

    model_config = ConfigDict(frozen=True)

    trial: int
    """The first trial that was proposed afterwards."""
    in_flight: tuple[int, ...] = ()
    """Trials that were being trained then; they are checked against the limits when they resume."""
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return f"Before trial {self.trial}: " + "; ".join(map(str, self.changes))


def identity(study: StudyConfig) -> str:
    """The study as JSON, without its budgets, what the reader wants of a recommendation, and names.

    It is equal for studies whose trials are comparable.
    """
    tuner = study.tuner.model_copy(update={"rungs": study.rungs})
    whole = study.model_copy(update={"tuner": tuner})
    return whole.model_dump_json(
        exclude={"study": set(BUDGETS), "decision": True, "task": {"labels"}}
    )


def steered(before: str, after: StudyConfig, where: str) -> tuple[Change, ...]:
    """The changes between a running study and its new study file.

    Args:
        before: :func:`identity` of the running study.
        after: the new study.
        where: the run folder, for messages.

    Raises:
        RunFolderError: a change is not allowed in a running study.
    """
    there, here = json.loads(before), json.loads(identity(after))
    # A study from before there were these keys.
    defaults = ServerSection().model_dump(mode="json")
    there["server"] = {**defaults, **there.get("server", {})}
    found = list(_differences(there, here))
    narrowed = {
        f"space.{section}.{name}"
        for section in SECTIONS
        for name, parameter in getattr(after.space, section).items()
        if name in there["space"][section]
        and _narrower(Parameter.model_validate(there["space"][section][name]), parameter)
    }
    refused = [
        change
        for change in found
        if not (
            (change.key.startswith(("limits.", "queue")) and change.key != "limits.time_h")
            or _parameter_of(change.key) in narrowed
        )
    ]
    if refused:
        differs = ", ".join(
            f"{change.key} ({change.before} there, {change.after} here)" for change in refused
        )
        widened = any(change.key.startswith("space.") for change in refused)
        raise RunFolderError(
            f"{where} belongs to another study: it differs in {differs}; "
            + ("a space may only become narrower while a study runs: " if widened else "")
            + "choose another folder with --out, or remove this one"
        )
    # The default of a narrowed parameter changes by itself.
    return tuple(change for change in found if not change.key.endswith(".default"))


def last_limits(changes: Iterable[Changes]) -> Changes | None:
    """The latest changes that include limits; None where there are none."""
    limits = [
        each for each in changes if any(change.key.startswith("limits.") for change in each.changes)
    ]
    return limits[-1] if limits else None


def _parameter_of(key: str) -> str:
    return ".".join(key.split(".")[:3])


def _narrower(before: Parameter, after: Parameter) -> bool:
    """Whether the new values of a parameter are a proper subset of the old ones."""
    if after.model_copy(update={"default": None}) == before.model_copy(update={"default": None}):
        return False
    if after.choices is not None:
        if before.choices is not None:
            return {repr(each) for each in after.choices} < {repr(each) for each in before.choices}
        return all(before.contains(each) for each in after.choices)
    if before.choices is not None or after.integer != before.integer:
        return False
    within = all(before.contains(end) for end in after.bounds())
    return within and (after.log, after.step) == (before.log, before.step)


def _differences(before: object, after: object) -> Iterator[Change]:
    a, b = _leaves(before), _leaves(after)
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            shown = key.replace("limits.devices.", "limits.", 1)
            yield Change(
                key=shown, before=str(a.get(key, "absent")), after=str(b.get(key, "absent"))
            )


def _leaves(tree: object, at: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {at: tree}
    return {
        leaf: value
        for key, branch in tree.items()
        if branch not in (None, [])
        for leaf, value in _leaves(branch, f"{at}.{key}" if at else str(key)).items()
    }
