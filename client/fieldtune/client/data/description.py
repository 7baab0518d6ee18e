"""``data.toml``: what a device's data are, and what its owner allows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fieldtune.client.data.privacy import Privacy
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.toml import from_toml
from fieldtune.profiles.common.validation import first_error

DESCRIPTION = "data.toml"


class DataDescription(BaseModel):
    """The content of ``data.toml``, in the data folder or, for a function, the working directory.

    Args:
        classes: number of classes of the whole task, the same on every device.
        labels: names of the classes in the order of their numbers, the same on every device.
        label_column: name of the label column of a ``.csv``; default: the last column.
        shape: shape of one sample of a ``.csv``; default: a flat row.
        test_share: share of the samples used for testing if there is no separate test data.
        offset: and ``scale``: a value in the files is trained on as ``(value - offset) / scale``;
            the same on every device.
        scale: likewise.
        privacy: what the device's owner allows the coordinator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int | None = Field(default=None, ge=2)
    labels: tuple[Annotated[str, Field(max_length=100)], ...] | None = Field(
        default=None, min_length=2
    )
    label_column: str | None = None
    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    test_share: float = Field(default=0.25, gt=0, lt=1)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    privacy: Privacy = Privacy()


def read_description(folder: Path) -> DataDescription:
    """The description in a folder; the default one where there is none.

    Raises:
        DataError: it is invalid.
    """
    file = folder / DESCRIPTION
    if not file.exists():
        return DataDescription()
    try:
        return DataDescription.model_validate(from_toml(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failed:
        raise DataError(f"{file} cannot be read: {failed}") from None
    except ValidationError as wrong:
        raise DataError(f"{file}: {first_error(wrong, DataDescription, quotes=False)}") from None
