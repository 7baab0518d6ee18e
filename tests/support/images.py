"""Image files of given pixels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def image_bytes(pixels: np.ndarray, kind: str = "png", mode: str | None = None) -> bytes:
    """A file of ``[height, width, 1 or 3]`` or ``[height, width]``; converted to the mode first."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()
