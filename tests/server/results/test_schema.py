"""``pareto.json``: what is written is read back, by this version and of earlier ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.results.schema import Point

WRITTEN: dict[str, Any] = {
    "trial": 3,
    "variant": "fp32",
    "configuration": {"width": 8},
    "objectives": {"error": {"value": 0.25, "low": 0.2, "high": 0.5}},
    "measures": {"error": 0.25},
    "test_samples": 40,
    "runs": 2,
    "devices": {
        "raspberry-pi-5": {
            "clients": 4,
            "fitting": 4,
            "costs": {"inference_ms": {"value": 1.0, "low": 0.5, "high": 2.0}, "energy_j": None},
            "slack": {"memory_mib": -0.5},
            "needs": {},
            "used": {},
        }
    },
    "losses": [],
    "calls": None,
    "variants": {},
}


def test_a_figure_and_its_interval_are_an_estimate_and_keep_their_form() -> None:
    point = Point.model_validate_json(json.dumps(WRITTEN))
    assert point.objectives == {"error": Estimate(0.25, 0.2, 0.5)}
    assert point.devices["raspberry-pi-5"].costs["inference_ms"] == Estimate(1.0, 0.5, 2.0)
    assert json.loads(point.model_dump_json()) == WRITTEN
    assert list(json.loads(point.model_dump_json())["objectives"]["error"]) == [
        "value",
        "low",
        "high",
    ]


def test_a_figure_without_its_interval_is_refused() -> None:
    broken = {**WRITTEN, "objectives": {"error": {"value": 0.25}}}
    with pytest.raises(ValidationError, match="low"):
        Point.model_validate(broken)
