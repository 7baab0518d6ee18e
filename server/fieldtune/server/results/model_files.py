"""The files of models in a run folder: each variant of a trial, and its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.profiles.common.files import readable
from fieldtune.profiles.common.text import printable_json
from fieldtune.server.results.card import OWN_DATA, card_json, card_md
from fieldtune.server.results.run_folder import RunFolder, trial_name
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.results.stored_files import CardData, VariantFile

_REMEDY = "run the study's 'fieldtune tune' command again to write it anew"


def variant_path(trial: int, variant: str) -> str:
    """Where a variant lies in the run folder."""
    return f"models/{trial_name(trial)}/{variant}.tflite"


def card_path(trial: int) -> str:
    """Where a trial's card lies in the run folder."""
    return f"models/{trial_name(trial)}/card.json"


class Card(BaseModel):
    """What fieldtune itself reads of a trial's ``card.json``; its other keys are for people."""

    trial: int
    variants: dict[Annotated[str, Field(pattern=r"^\w+$")], VariantFile]
    """By name, which is that of the file."""
    data: CardData | None = None
    """None in files of versions that did not write it."""


def read_card(folder: Path, trial: int) -> Card:
    """A trial's card.

    Raises:
        RunFolderError: the card is missing, cannot be read, is damaged, or is another trial's.
    """
    file = folder / card_path(trial)
    try:
        card = Card.model_validate_json(printable_json(_read(file).decode()))
    except ValueError:
        raise RunFolderError(f"{file} is damaged: {_REMEDY}") from None
    if card.trial != trial:
        raise RunFolderError(f"{file} describes trial {card.trial}, not trial {trial}: {_REMEDY}")
    return card


def read_variant(folder: Path, trial: int, variant: str, sha256: str) -> bytes:
    """A variant's file.

    Args:
        folder: of the run.
        trial: whose model it is.
        variant: its name.
        sha256: of the file, in hexadecimal, as the trial's card states it.

    Raises:
        RunFolderError: the file is missing, cannot be read, or has another SHA-256.
    """
    file = folder / variant_path(trial, variant)
    model = _read(file)
    if hashlib.sha256(model).hexdigest() != sha256:
        raise RunFolderError(
            f"{file} is damaged or was replaced, its SHA-256 is not the one in card.json: {_REMEDY}"
        )
    return model


def written_variants(folder: RunFolder, trial: int) -> dict[str, VariantFile]:
    """The variants of a trial that are in the folder, undamaged and measured; else none."""
    try:
        variants = read_card(folder.path, trial).variants
        for name, file in variants.items():
            read_variant(folder.path, trial, name, file.sha256)
    except RunFolderError:
        return {}
    return variants if set(variants) == set(folder.study.task.variants) else {}


def with_variants(folder: RunFolder, summary: Summary) -> Summary:
    """The summary with what the folder holds of each point's variants."""

    def filled(point: Point) -> Point:
        return point.model_copy(update={"variants": written_variants(folder, point.trial)})

    defaults = summary.defaults and filled(summary.defaults)
    front = [filled(point) for point in summary.front]
    found = summary.model_copy(update={"front": front, "defaults": defaults})
    return found.model_copy(update={"labels": _labels(folder, found)})


def _labels(folder: RunFolder, summary: Summary) -> tuple[str, ...]:
    """The names of the classes, as the cards have them."""
    for point in summary.deployable:
        if point.variants and (data := read_card(folder.path, point.trial).data):
            return data.labels
    return ()


def write_cards(folder: RunFolder, summary: Summary, labels: Sequence[str] | None = None) -> None:
    """Write ``card.json`` and ``card.md`` of every point that has files, as it is known now.

    Args:
        folder: of the run.
        summary: its results.
        labels: names of the classes today, empty where they have none; None to keep the cards'.
    """
    for point in summary.deployable:
        if point.variants:
            data = read_card(folder.path, point.trial).data or CardData(
                source=folder.study.task.data or OWN_DATA
            )
            data = data.model_copy(
                update={"labels": data.labels if labels is None else tuple(labels)}
            )
            text = card_json(folder.study, point, point.variants, data)
            folder.write(card_path(point.trial), text)
            text = card_md(folder.study, summary, point, data)
            folder.write(f"models/{trial_name(point.trial)}/card.md", text)


def _read(file: Path) -> bytes:
    try:
        return readable(file).read_bytes()
    except FileNotFoundError:
        raise RunFolderError(f"{file} is missing: {_REMEDY}") from None
    except OSError as failed:
        raise RunFolderError(f"{file} cannot be read ({failed.strerror}): {_REMEDY}") from None
