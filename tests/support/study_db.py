"""What a study's database holds, read as it stands."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_TABLES = "SELECT count(*) FROM sqlite_master WHERE name IN ('trials', 'trial_values')"
_PARAMETERS = """
SELECT number, param_name, param_value FROM trials JOIN trial_params USING (trial_id)
WHERE state = 'COMPLETE'
"""
_ERRORS = """
SELECT number, value FROM trials JOIN trial_values USING (trial_id)
WHERE state = 'COMPLETE' AND objective = 0
"""


def completed_trials(run: Path) -> set[tuple[object, ...]]:
    """Number and parameters, and number and first objective, of each completed trial."""
    if not (run / "study.db").exists():
        return set()
    with closing(sqlite3.connect(run / "study.db")) as database:
        if database.execute(_TABLES).fetchone() != (2,):
            return set()
        return {*database.execute(_PARAMETERS), *database.execute(_ERRORS)}


def completed_numbers(run: Path) -> set[object]:
    """The numbers of the completed trials."""
    return {number for number, *_ in completed_trials(run)}
