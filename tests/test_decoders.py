"""No bytes from outside raise what is not documented; ``tests/fuzz.py`` tries a million."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.decoders import Decoder, decoders, mutated

NAMES = (
    "artefact", "availability.csv", "availability.json", "backup", "bundle", "ca.key", "card",
    "checkpoint", "client's status", "coordinator.toml", "costs", "data: bmp", "data: csv",
    "data: data.toml", "data: jpeg", "data: npz", "data: png", "data: ppm", "deployed model",
    "deployment order", "deployment reply", "deployment reply's values", "description",
    "description's values", "earlier study", "encoded reply", "encoded reply's values",
    "enrolled device", "evaluation reply", "evaluation reply's values", "fingerprint",
    "fleet's status", "float16 update", "float32 update", "int8 update", "interrupted work",
    "latencies", "names to enroll", "node's number", "order's number", "pareto", "pareto of 0.1.0",
    "privacy spent", "profile", "refused reports", "request", "rollback order", "rollout",
    "run's study", "sample.csv", "sample.npy", "sample.npz", "server.crt", "simulated data",
    "status reply", "status reply's values", "study", "tflite", "tflite to predict", "topk update",
    "training reply", "training reply's values", "weights",
)  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decoder]:
    return decoders(tmp_path_factory.mktemp("decoders"))


def test_each_is_listed_and_accepts_its_seed(known: dict[str, Decoder]) -> None:
    assert tuple(sorted(known)) == NAMES
    for decoder in known.values():
        decoder.decode(decoder.seed)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(st.one_of(st.binary(max_size=64), st.integers(0, 2**32 - 1)))
def test_anything_else_is_refused_in_a_sentence(
    known: dict[str, Decoder], name: str, data: bytes | int
) -> None:
    decoder = known[name]
    if isinstance(data, int):
        data = mutated(decoder.seed, np.random.default_rng(data))
    decoder.survives(data)
