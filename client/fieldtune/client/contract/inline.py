"""Small weights as bytes among a message's scalars, instead of in a record of their own.

Flower stores and transfers each message, record, array and chunk of an array as an object of its
own. A message whose weights are among its scalars, and its contract too, consists of three objects
instead of seven.
"""

from __future__ import annotations

import numpy as np

from fieldtune.client.contract.messages import Weights

MOST_BYTES = 2**16
"""Larger weights go in a record of their own, which a round's requests share."""
STATED = "contract"
"""Scalar that states the version of a message without a record that does
(:data:`~fieldtune.client.contract.version.RECORD`). A request that has it may be replied to in the
same way."""


def to_bytes(weights: Weights, *, half: bool = False) -> bytes:
    """Weights as little-endian float32, or float16 with ``half``."""
    return weights.astype("<f2" if half else "<f4").tobytes()


def from_bytes(data: bytes, *, half: bool = False) -> Weights:
    """The weights of :func:`to_bytes`.

    Raises:
        ValueError: they are no whole number of weights.
    """
    return np.frombuffer(data, "<f2" if half else "<f4").astype(np.float32)
