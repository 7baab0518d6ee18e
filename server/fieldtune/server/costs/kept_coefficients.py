"""``costs.json`` of a run folder: the coefficients of each architecture's costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.costs.coefficients import MEASURES, TERMS

Array = NDArray[np.float64]

_Row = Annotated[list[FiniteFloat], Field(min_length=len(TERMS), max_length=len(TERMS))]
_Table = Annotated[list[_Row], Field(min_length=len(MEASURES), max_length=len(MEASURES))]


class _Architecture(BaseModel):
    artefact: str
    """SHA-256 of the compiled model."""
    coefficients: dict[str, _Table]
    """Device type -> coefficients ``[measure, term]``."""


class _File(BaseModel):
    version: str
    """Of fieldtune: another one may predict other costs."""
    profiles: dict[str, str]
    """Device type -> SHA-256 of its profile."""
    measures: tuple[str, ...] = MEASURES
    terms: tuple[str, ...] = TERMS
    architectures: dict[str, _Architecture] = {}


class KeptCoefficients:
    """Coefficients from earlier sessions, where nothing that they depend on has changed.

    Args:
        text: of ``costs.json``; None where there is none. A damaged file counts as none.
        profiles: of each device type of the fleet.
    """

    def __init__(self, text: str | None, profiles: Mapping[str, DeviceProfile]) -> None:
        prints = {
            name: hashlib.sha256(profile.model_dump_json().encode()).hexdigest()
            for name, profile in profiles.items()
        }
        self._file = _File(version=metadata.version("fieldtune"), profiles=prints)
        try:
            before = _File.model_validate_json(text or "")
        except ValidationError:
            return
        for name in ("version", "measures", "terms"):
            if getattr(before, name) != getattr(self._file, name):
                return
        same = {name for name, each in before.profiles.items() if prints.get(name) == each}
        for key, each in before.architectures.items():
            tables = {name: table for name, table in each.coefficients.items() if name in same}
            self._file.architectures[key] = _Architecture(
                artefact=each.artefact, coefficients=tables
            )

    def of(self, key: str, artefact: str) -> dict[str, Array]:
        """Device type -> coefficients of an architecture, of those that are kept.

        Args:
            key: of the architecture.
            artefact: SHA-256 of the compiled model.
        """
        kept = self._file.architectures.get(key)
        if kept is None or kept.artefact != artefact:
            return {}
        return {name: np.array(table) for name, table in kept.coefficients.items()}

    def keep(self, key: str, artefact: str, tables: Mapping[str, Array]) -> str:
        """Keep an architecture's coefficients; the new text of the file."""
        self._file.architectures[key] = _Architecture(
            artefact=artefact,
            coefficients={name: table.tolist() for name, table in sorted(tables.items())},
        )
        return json.dumps(self._file.model_dump(), indent=1, sort_keys=True)
