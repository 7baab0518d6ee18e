"""A deployed model as one file: the ``.tflite`` with its card and label names attached.

They are attached as TensorFlow's model metadata attaches files: a zip archive follows the model. So
the file is a TFLite model to a runtime and an archive to ``unzip``, and one rename replaces model
and card together.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass

from fieldtune.client.contract.deployment import Card, DeployOrder

CARD, LABELS = "card.json", "labels.txt"
_DATE = (1980, 1, 1, 0, 0, 0)
_MOST_CARD_BYTES = 2**21


class DamagedError(Exception):
    """The file is not what was deployed; the message says what is wrong."""


@dataclass(frozen=True)
class Package:
    """A model, and the order that brought it."""

    order: DeployOrder
    model: bytes

    @property
    def card(self) -> Card:
        """Describes the model."""
        return self.order.card


def packed(package: Package) -> bytes:
    """The file's content; always the same bytes for the same package."""
    file = io.BytesIO(package.model)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(CARD, _DATE), package.order.text())
        if package.card.labels:
            labels = "".join(f"{label}\n" for label in package.card.labels)
            archive.writestr(zipfile.ZipInfo(LABELS, _DATE), labels)
    return file.getvalue()


def unpacked(content: bytes) -> Package:
    """The package in a file.

    Raises:
        DamagedError: there is no card in it, or its model has another SHA-256 than the card says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.getinfo(CARD).file_size > _MOST_CARD_BYTES:
                raise DamagedError("its card is too large")
            order = DeployOrder.read(archive.read(CARD).decode())
    except Exception as wrong:  # zipfile raises almost anything over damaged bytes
        raise DamagedError(f"its card cannot be read: {wrong}") from None
    model = content[: order.card.size]
    if hashlib.sha256(model).hexdigest() != order.card.artefact:
        raise DamagedError("its SHA-256 is not the one in its card")
    return Package(order, model)
