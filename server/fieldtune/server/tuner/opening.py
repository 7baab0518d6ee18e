"""What is written to a study's storage each time it is opened: its changes and its queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.study.changes import Change, Changes
from fieldtune.server.study.space import Value

_STUDY_KEY, _LOG_KEY, _QUEUED_KEY = "fieldtune:study", "fieldtune:changes", "fieldtune:queued"


def amended(
    study: optuna.Study,
    where: str,
    identity: str,
    steer: Callable[[str], tuple[Change, ...]] | None,
) -> tuple[Changes, ...]:
    """Store the changes of a study's file since the last session; all changes so far.

    Raises:
        RunFolderError: the storage holds another study, or ``steer`` refuses the changes.
    """
    stored = study.user_attrs.get(_LOG_KEY, [])
    log = tuple(Changes.model_validate(each) for each in stored)
    before = study.user_attrs.get(_STUDY_KEY, identity)
    if before != identity:
        if steer is None:
            raise RunFolderError(f"{where} holds another study: remove it or choose another")
        if found := steer(before):
            log = logged(study, log, found)
    study.set_user_attr(_STUDY_KEY, identity)
    return log


def logged(
    study: optuna.Study, log: Sequence[Changes], found: Sequence[Change]
) -> tuple[Changes, ...]:
    """Store further changes; all changes so far."""
    trials = study.get_trials(deepcopy=False)
    flying = [t.number for t in trials if t.state == TrialState.RUNNING]
    changes = Changes(trial=len(trials), changes=tuple(found), in_flight=tuple(flying))
    study.set_user_attr(_LOG_KEY, [each.model_dump() for each in (*log, changes)])
    return (*log, changes)


def enqueue_once(
    study: optuna.Study,
    defaults: Mapping[str, Value],
    queue: Sequence[Mapping[str, Value]],
    stored: Sequence[FrozenTrial],
) -> None:
    """Queue the defaults of a new study, then the entries of the study file's queue, each once."""
    done = {trial.user_attrs.get(_QUEUED_KEY) for trial in stored}
    if not stored:
        study.enqueue_trial(dict(defaults))
    for values in queue:
        key = json.dumps(dict(values), sort_keys=True)
        if key not in done:
            done.add(key)
            study.enqueue_trial(dict(values), user_attrs={_QUEUED_KEY: key})
