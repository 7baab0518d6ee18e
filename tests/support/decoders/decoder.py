"""One decoder, and mutations of what it accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldtune.profiles.common.errors import FieldtuneError
from fieldtune.profiles.common.text import printable


@dataclass(frozen=True)
class Decoder:
    """One of them.

    Attributes:
        seed: bytes that it accepts.
        decode: raises a FieldtuneError at most.
    """

    seed: bytes
    decode: Callable[[bytes], object]

    def survives(self, data: bytes) -> None:
        """Decode, and pass over what it documents, if that is one line to show."""
        try:
            self.decode(data)
        except FieldtuneError as refused:
            shown(str(refused))


def shown(*texts: str) -> None:
    """AssertionError where a text would change what a terminal shows."""
    for text in texts:
        assert text == printable(text), f"not one line of printable text: {text!r}"


def from_file(
    folder: Path,
    name: str,
    load: Callable[[Path], object],
    beside: Mapping[str, bytes] | None = None,
) -> Callable[[bytes], object]:
    """A decoder of a file: ``load`` is given the file's path."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    for other, content in (beside or {}).items():
        (folder / other).write_bytes(content)

    def decode(data: bytes) -> object:
        file.write_bytes(data)
        return load(file)

    return decode


_TOKENS = (b"[", b"{", b'"', b"inf", b"nan", b"-1", b"9" * 30, b"\xff", b"\x00", b"[" * 3000)


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """One to eight changes: bytes replaced, removed, repeated, or taken from elsewhere in it."""
    data = bytearray(seed)
    for _ in range(rng.integers(1, 9)):
        at, size = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 17))
        match rng.integers(0, 6):
            case 0:
                data[at : at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                data[at : at + size] = rng.bytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                start = int(rng.integers(0, len(data) + 1))
                data[at:at] = data[start : start + size]
            case 4:
                data[at:at] = _TOKENS[rng.integers(0, len(_TOKENS))]
            case _:
                del data[at : None if rng.random() < 0.2 else at + 1]
    return bytes(data)
