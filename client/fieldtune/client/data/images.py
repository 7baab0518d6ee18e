"""Reading images with Pillow (the extra ``images``)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
_MAX_PIXELS = 2**24
_16_BITS = ("I", "I;16", "I;16B")


def read_image(file: Path) -> NDArray[np.float32]:
    """An image as float32 ``[height, width, 1 or 3]`` in 0..1; transparency is dropped.

    Raises:
        DataError: Pillow is not installed, or the file is damaged, too large, or cannot be opened.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise DataError(
            f"{file} is an image, which needs the package 'pillow': pip install 'fieldtune[images]'"
        ) from None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise DataError(
                    f"{file} has {image.width} x {image.height} pixels: make it smaller, at most "
                    f"{_MAX_PIXELS} are read"
                )
            if image.mode in _16_BITS:  # Pillow would clip values above 255
                return np.asarray(image, np.float32)[..., None] / np.float32(65535)
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as failed:
        if (
            isinstance(failed, OSError) and failed.errno
        ):  # from the operating system, not from Pillow
            raise DataError(f"{file}: cannot be read: {failed.strerror}") from None
        raise DataError(f"{file} is damaged or not an image: replace or remove it") from None
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels.astype(np.float32) / np.float32(255)
