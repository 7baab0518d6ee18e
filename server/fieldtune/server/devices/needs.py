"""What a study needs of the clients on its devices."""

from __future__ import annotations

from fieldtune.server.study.algorithms import values
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.settings import ALGORITHM


def needed_contract(study: StudyConfig) -> int:
    """The oldest contract with which devices can do what the study asks of them."""
    rules = (*values(study.space.server, "aggregation"), study.server.aggregation)
    return 2 if ALGORITHM.keys() & study.space.client.keys() or "qfedavg" in rules else 1
