"""Reading images with what a device has: PNG by the standard library, others where Pillow is there.

PNG (W3C, Portable Network Graphics, second edition): 8 bits a channel, grey, colour or palette,
with or without alpha (which is dropped), not interlaced. That is what cameras and tools write.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples a pixel (table 11.1)
_MOST_PIXELS = 2**24


def read_image(file: Path) -> NDArray[np.float32]:
    """An image as float32 ``[height, width, 1 or 3]`` in 0..1.

    Raises:
        DataError: it is damaged, of a kind that cannot be read here, or cannot be opened.
    """
    try:
        content = file.read_bytes()
    except OSError as failed:
        raise DataError(f"{file}: cannot be read: {failed.strerror}") from None
    if content.startswith(_SIGNATURE):
        try:
            pixels = _png(content)
        except _Unsupported as kind:
            pixels = _by_pillow(file, f"is a PNG that is {kind}")
        except (ValueError, IndexError, KeyError, zlib.error):
            raise DataError(f"{file} is damaged: replace or remove it") from None
    else:
        pixels = _by_pillow(file, "is not a PNG")
    return pixels.astype(np.float32) / np.float32(255)


class _Unsupported(Exception):
    """A PNG of a kind that :func:`_png` does not read."""


def _by_pillow(file: Path, why: str) -> NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        raise DataError(
            f"{file} {why}, which only Pillow reads: pip install 'fieldtune[images]', or convert "
            "it to an 8-bit PNG"
        ) from None
    try:
        with Image.open(file) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            pixels = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise DataError(f"{file} is not an image that Pillow can read: remove it") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _png(content: bytes) -> NDArray[np.uint8]:
    chunks: dict[bytes, bytes] = {}
    at = len(_SIGNATURE)
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        chunks[kind] = chunks.get(kind, b"") + content[at + 8 : at + 8 + size]
        at += 12 + size
    header = chunks[b"IHDR"]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour, interlaced = header[8], header[9], header[12]
    if depth != 8 or interlaced:
        raise _Unsupported("interlaced" if interlaced else f"of {depth} bits a channel")
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError("too many pixels")
    channels = _CHANNELS[colour]
    expected = height * (1 + width * channels)
    raw = zlib.decompressobj().decompress(chunks[b"IDAT"], expected)
    lines = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * channels)
    pixels = _unfilter(lines, channels).reshape(height, width, channels)
    if colour == 3:
        return np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[pixels[..., 0]]
    return pixels[..., : 1 if channels <= 2 else 3]


def _unfilter(lines: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Undo the filter of each line (section 9.2), whose type its first byte names."""
    out = np.zeros((len(lines), lines.shape[1] - 1), np.uint8)
    above = np.zeros(lines.shape[1] - 1, np.uint8)
    for row, line in enumerate(lines):
        kind, coded = line[0], line[1:]
        if kind == 0:
            out[row] = coded
        elif kind == 1:  # Sub: each byte adds to the one a pixel before it, modulo 256
            out[row] = np.add.accumulate(
                coded.reshape(-1, channels), axis=0, dtype=np.uint8
            ).ravel()
        elif kind == 2:  # Up
            out[row] = coded + above
        elif kind in (3, 4):
            out[row] = _sequential(coded, above, channels, paeth=kind == 4)
        else:
            raise ValueError(f"filter {kind}")
        above = out[row]
    return out


def _sequential(
    coded: NDArray[np.uint8], above: NDArray[np.uint8], channels: int, *, paeth: bool
) -> NDArray[np.uint8]:
    """Average and Paeth, where a byte depends on the one before it in the same line."""
    line, up, done = coded.tolist(), above.tolist(), [0] * channels
    up = [0] * channels + up
    for at, value in enumerate(line):
        left, over, corner = done[at], up[at + channels], up[at]
        if paeth:
            near = left + over - corner
            to_left, to_over, to_corner = abs(near - left), abs(near - over), abs(near - corner)
            if to_left <= to_over and to_left <= to_corner:
                guess = left
            else:
                guess = over if to_over <= to_corner else corner
        else:
            guess = (left + over) // 2
        done.append((value + guess) & 0xFF)
    return np.array(done[channels:], np.uint8)
