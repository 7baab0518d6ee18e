"""Images are read as shares of their range, whatever their kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldtune.client.data.images import read_image
from fieldtune.profiles.common.errors import DataError
from support.images import image_bytes

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["png", "bmp", "ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_read_as_it_was_written(tmp_path: Path, kind: str, channels: int) -> None:
    pixels = RNG.integers(0, 256, (7, 5, channels), np.uint8)
    (tmp_path / "a").write_bytes(image_bytes(pixels, kind))
    seen = read_image(tmp_path / "a")
    assert seen.dtype == np.float32
    assert (seen == pixels.astype(np.float32) / np.float32(255)).all()


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3), ("P", 3), ("1", 1)])
def test_a_palette_is_read_in_its_colours_and_transparency_is_dropped(
    tmp_path: Path, mode: str, channels: int
) -> None:
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    (tmp_path / "a.png").write_bytes(image_bytes(pixels, mode=mode))
    assert read_image(tmp_path / "a.png").tolist() == [[[0.0] * channels, [1.0] * channels]]


@pytest.mark.parametrize("kind", ["png", "ppm"])
def test_sixteen_bits_of_grey_are_read_as_a_share_of_their_range(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(image_bytes(np.array([[0, 13107, 65535]], np.uint16), kind))
    assert read_image(tmp_path / "a").ravel() == pytest.approx([0, 0.2, 1])


def test_a_jpeg_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes(np.full((8, 8, 3), 51, np.uint8), "jpeg"))
    assert read_image(tmp_path / "a.jpg") == pytest.approx(np.full((8, 8, 3), 0.2), abs=0.01)


def test_an_image_that_would_fill_the_memory_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (8192, 4096)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="has 8192 x 4096 pixels: make it smaller"):
        read_image(tmp_path / "a.png")


def test_an_image_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: cannot be read: No such file"):
        read_image(tmp_path / "a.png")
