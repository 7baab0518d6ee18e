"""Writes many values of trials to Optuna's storage at once, also of finished trials; reads trials.

Optuna has no public way to do so: ``Trial.set_user_attr`` and the like commit each value
separately, so a trial would take twenty commits, and a kill between two would leave it incomplete;
and no public method changes a finished trial, whose costs are re-evaluated later.

It also reads the latest trials: Optuna reads them through its object mapper, in nine queries and
many times as long, and then sorts all trials.

So this module, and no other, uses SQL on Optuna's tables through the engine of its ``RDBStorage``:
``trials``, ``trial_params``, ``trial_values`` and the two of attributes, for Optuna >=5,<6 (the
columns used here are the same since Optuna 3). It is plain inserts, updates and deletes, alike in
SQLite and PostgreSQL.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    Connection,
    DateTime,
    Enum,
    Executable,
    String,
    TableClause,
    bindparam,
    column,
    delete,
    insert,
    select,
    table,
    update,
)

_STUDIES = table("studies", column("study_id"), column("study_name"))
_TRIALS = table(
    "trials",
    column("trial_id"), column("study_id"), column("number"), column("state", Enum(TrialState)),
    column("datetime_start", DateTime), column("datetime_complete", DateTime),
)  # fmt: skip
_PARAMS = table(
    "trial_params",
    column("param_id"), column("trial_id"), column("param_name"), column("param_value"),
    column("distribution_json"),
)  # fmt: skip
_VALUES = table(
    "trial_values",
    column("trial_id"), column("objective"), column("value"), column("value_type", String),
)  # fmt: skip
_USER, _SYSTEM = (
    table(name, column("trial_id"), column("key"), column("value_json"))
    for name in ("trial_user_attributes", "trial_system_attributes")
)


_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}
"""``value_type`` of values that are not stored as numbers."""


@dataclass(frozen=True)
class Facts:
    """What to store of one trial.

    Attributes:
        params: name -> distribution and value, for a trial that has none of these.
        user_attributes: anything that JSON can hold; replaces what has the same name.
        system_attributes: likewise.
        values: index of an objective -> its value, finite, for a trial that was told values.
    """

    params: Mapping[str, tuple[BaseDistribution, Any]] = field(default_factory=dict)
    user_attributes: Mapping[str, Any] = field(default_factory=dict)
    system_attributes: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[int, float] = field(default_factory=dict)


def store(
    storage: RDBStorage,
    study_name: str,
    facts: Mapping[int, Facts],
    outdated: Callable[[str], bool] | None = None,
) -> None:
    """Store facts of trials in one transaction, whether or not the trials are finished.

    Args:
        storage: where the study is.
        study_name: the study.
        facts: by trial number.
        outdated: says of an attribute's name whether it is removed where no fact has it.

    Raises:
        KeyError: there is no such trial.
        sqlalchemy.exc.SQLAlchemyError: the storage cannot be read or written.
    """
    with storage.engine.begin() as connection:
        stored = connection.execute(
            select(_TRIALS.c.number, _TRIALS.c.trial_id)
            .join_from(_TRIALS, _STUDIES, _TRIALS.c.study_id == _STUDIES.c.study_id)
            .where(_STUDIES.c.study_name == study_name, _TRIALS.c.number.in_(facts))
        )
        ids = {row.number: row.trial_id for row in stored}
        of = {ids[number]: each for number, each in facts.items()}
        _execute(connection, insert(_PARAMS), [
            {"trial_id": trial_id, "param_name": name,
             "param_value": float(distribution.to_internal_repr(value)),
             "distribution_json": distribution_to_json(distribution)}
            for trial_id, each in of.items() for name, (distribution, value) in each.params.items()
        ])  # fmt: skip
        for attributes, values in (
            (_USER, {trial_id: each.user_attributes for trial_id, each in of.items()}),
            (_SYSTEM, {trial_id: each.system_attributes for trial_id, each in of.items()}),
        ):
            _replace(connection, attributes, values, outdated)
        _execute(
            connection,
            update(_VALUES)
            .where(
                _VALUES.c.trial_id == bindparam("of_trial"),
                _VALUES.c.objective == bindparam("of_objective"),
                _VALUES.c.value.is_not(None),  # Optuna has no number there for an infinite value
            )
            .values(value=bindparam("now")),
            [
                {"of_trial": trial_id, "of_objective": objective, "now": float(value)}
                for trial_id, each in of.items()
                for objective, value in each.values.items()
            ],
        )


def trials_after(storage: RDBStorage, study_id: int, trial_id: int) -> list[FrozenTrial]:
    """The trials of a study that were created after one of them, in that order.

    Args:
        storage: where the study is.
        study_id: of the study, in the storage.
        trial_id: of the trial, in the storage.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the storage cannot be read.
    """
    with storage.engine.connect() as connection:

        def rows(of: TableClause, *columns: str) -> Sequence[Any]:
            chosen = select(*(of.c[name] for name in columns)).where(of.c.trial_id > trial_id)
            if of is not _TRIALS:
                chosen = chosen.join(_TRIALS, of.c.trial_id == _TRIALS.c.trial_id)
            chosen = chosen.where(_TRIALS.c.study_id == study_id)
            return connection.execute(chosen.order_by(of.c[columns[0]])).all()

        trials = rows(_TRIALS, "trial_id", "number", "state", "datetime_start", "datetime_complete")
        params: dict[int, dict[str, Any]] = defaultdict(dict)
        distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
        for _, of, name, value, text in rows(
            _PARAMS, "param_id", "trial_id", "param_name", "param_value", "distribution_json"
        ):
            distributions[of][name] = distribution = _distribution(text)
            params[of][name] = distribution.to_external_repr(value)
        values: dict[int, list[float]] = defaultdict(list)
        for _, of, value, kind in rows(_VALUES, "objective", "trial_id", "value", "value_type"):
            values[of].append(_INFINITE.get(kind, value))
        user, system = (
            _grouped(rows(of, "trial_id", "key", "value_json")) for of in (_USER, _SYSTEM)
        )
    return [
        FrozenTrial(
            number=number, state=state, value=None, values=values.get(of),
            datetime_start=_local(start), datetime_complete=_local(complete),
            params=params[of], distributions=distributions[of],
            user_attrs=user[of], system_attrs=system[of], intermediate_values={}, trial_id=of,
        )
        for of, number, state, start, complete in trials
    ]  # fmt: skip


def _grouped(rows: Sequence[Any]) -> Mapping[int, dict[str, Any]]:
    """Trial -> its attributes."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for of, key, text in rows:
        found[of][key] = json.loads(text)
    return found


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(stored: datetime | None) -> datetime | None:
    """A time as Optuna shows it; it is stored in UTC."""
    return stored and stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _replace(
    connection: Connection,
    attributes: TableClause,
    values: Mapping[int, Mapping[str, Any]],
    outdated: Callable[[str], bool] | None,
) -> None:
    """Replace attributes of the same names and outdated ones by these."""
    if outdated is None and not any(values.values()):
        return
    there = connection.execute(
        select(attributes.c.trial_id, attributes.c.key).where(attributes.c.trial_id.in_(values))
    ).all()
    _execute(
        connection,
        delete(attributes).where(
            attributes.c.trial_id == bindparam("of_trial"), attributes.c.key == bindparam("named")
        ),
        [
            {"of_trial": trial_id, "named": key}
            for trial_id, key in there
            if key in values[trial_id] or (outdated and outdated(key))
        ],
    )
    _execute(
        connection,
        insert(attributes),
        [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for trial_id, each in values.items()
            for key, value in each.items()
        ],
    )


def _execute(connection: Connection, statement: Executable, rows: list[dict[str, Any]]) -> None:
    if rows:  # without any, SQLAlchemy would run the statement once
        connection.execute(statement, rows)
