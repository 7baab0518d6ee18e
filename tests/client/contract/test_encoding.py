"""Smaller updates: what an encoding keeps, what it leaves out, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.encoding import (
    BLOCK,
    ENCODINGS,
    Encoding,
    compressed,
    decode,
    encode,
    encoded_bytes,
    kept,
)


def random_update(size: int, seed: int, scale: float, zeros: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=size) * (rng.random(size) >= zeros)).astype(np.float32)


updates = st.builds(
    random_update,
    st.integers(1, 700),
    st.integers(0, 999),
    st.sampled_from([1e-3, 1.0, 100.0]),
    st.sampled_from([0.0, 0.9, 1.0]),
)
shares = st.floats(0.001, 1)
lossy = st.sampled_from([name for name in ENCODINGS if name != "float32"])
seeds = st.integers(0, 2**32 - 1)


@given(updates, st.sampled_from(ENCODINGS), shares, seeds)
def test_an_encoding_has_the_size_that_is_forecast(
    update: Any, encoding: Encoding, share: float, seed: int
) -> None:
    data = encode(update, encoding, seed, share)
    assert len(data) == encoded_bytes(encoding, update.size, share)
    assert decode(data, encoding, update.size, share).shape == update.shape


@given(updates, seeds)
def test_float32_is_the_identity(update: Any, seed: int) -> None:
    decoded = decode(encode(update, "float32", seed), "float32", update.size)
    assert decoded.tobytes() == update.tobytes()


@given(updates, shares)
def test_topk_and_its_residual_are_the_update(update: Any, share: float) -> None:
    zeros = np.zeros_like(update)
    data, residual = compressed(zeros, update, None, "topk", 0, share)
    sent = decode(data, "topk", update.size, share)
    np.testing.assert_array_equal(sent + residual, update)
    assert not (sent[residual != 0]).any()
    if residual.any():
        assert np.abs(residual).max() <= np.abs(sent[sent != 0]).min()
    assert np.count_nonzero(sent) <= kept(update.size, share)


@given(updates, lossy, shares, seeds)
def test_what_is_sent_and_what_is_left_out_are_the_update(
    update: Any, encoding: Encoding, share: float, seed: int
) -> None:
    data, residual = compressed(np.zeros_like(update), update, None, encoding, seed, share)
    sent = decode(data, encoding, update.size, share)
    np.testing.assert_allclose(sent + residual, update, rtol=1e-6, atol=1e-4)


@given(updates, seeds)
def test_int8_is_wrong_by_less_than_one_step_of_its_block(update: Any, seed: int) -> None:
    sent = decode(encode(update, "int8", seed), "int8", update.size)
    for at in range(0, update.size, BLOCK):
        block = slice(at, at + BLOCK)
        step = np.abs(update[block]).max() / 127
        assert (np.abs(sent[block] - update[block]) <= step * (1 + 1e-4)).all()


def test_stochastic_rounding_is_unbiased() -> None:
    """The mean over seeds is within five standard errors of the update, for each weight."""
    update = np.random.default_rng(1).normal(size=300).astype(np.float32)
    count = 400
    sent = np.stack([decode(encode(update, "int8", seed), "int8", 300) for seed in range(count)])
    step = np.repeat([np.abs(update[:BLOCK]).max(), np.abs(update[BLOCK:]).max()], BLOCK)[:300]
    # A rounding up or down has a standard deviation of at most half a step.
    assert (np.abs(sent.mean(axis=0) - update) <= 5 * 0.5 * step / 127 / count**0.5).all()
    assert (sent.std(axis=0) > 0).mean() > 0.9


def test_error_feedback_sends_everything_in_the_end() -> None:
    """Over many rounds, the sum of what was sent differs from the sum of updates by a residual."""
    rng, total, sent = np.random.default_rng(3), np.zeros(100), np.zeros(100)
    residual = None
    for number in range(50):
        update = rng.normal(size=100).astype(np.float32)
        data, residual = compressed(np.zeros_like(update), update, residual, "topk", number, 0.05)
        total, sent = total + update, sent + decode(data, "topk", 100, 0.05)
    np.testing.assert_allclose(sent + residual, total, atol=1e-4)


def test_the_same_seed_rounds_in_the_same_way() -> None:
    update = np.linspace(-1, 1, 50, dtype=np.float32)
    assert encode(update, "int8", 7) == encode(update, "int8", 7) != encode(update, "int8", 8)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("change", [-1, 1, 4000])
def test_bytes_of_another_size_are_refused(encoding: Encoding, change: int) -> None:
    data = encode(np.ones(1000, np.float32), encoding, 0, 0.1)
    wrong = data[:change] if change < 0 else data + bytes(change)
    with pytest.raises(ValueError, match=f"no {encoding} update of 1000 weights"):
        decode(wrong, encoding, 1000, 0.1)


def test_places_out_of_order_or_bounds_are_refused() -> None:
    few, many = (np.frombuffer(b, "<u4") for b in (bytes([9, 0, 0, 0] * 2), b"\xff" * 8))
    for places in (few, many):
        data = places.tobytes() + np.ones(2, "<f4").tobytes()
        with pytest.raises(ValueError, match="places of a topk update"):
            decode(data, "topk", 1000, 0.002)
    bits = np.packbits(np.ones(100, np.uint8)).tobytes()
    with pytest.raises(ValueError, match="has 100 places for 10 values"):
        decode(bits + bytes(40), "topk", 100, 0.1)


def test_scales_that_are_no_sizes_are_refused() -> None:
    for scale in (-1.0, np.nan):
        data = np.array([scale], "<f4").tobytes() + bytes(10)
        with pytest.raises(ValueError, match="scale of an int8 update"):
            decode(data, "int8", 10)


@given(st.binary(max_size=600), st.sampled_from(ENCODINGS), st.integers(1, 500), shares)
def test_no_bytes_raise_anything_but_a_value_error(
    data: bytes, encoding: Encoding, size: int, share: float
) -> None:
    padded = data.ljust(encoded_bytes(encoding, size, share), b"\x01")
    for given_bytes in (data, padded[: encoded_bytes(encoding, size, share)]):
        with suppress(ValueError):
            assert decode(given_bytes, encoding, size, share).shape == (size,)
