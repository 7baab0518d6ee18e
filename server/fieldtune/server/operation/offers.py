"""What a finished run offers each device type to deploy: the recommended model, and its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldtune.client.contract.deployment import Card
from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.profiles.common.shares import wilson
from fieldtune.server.results.export import (
    chosen_trial,
    exported_model,
    is_converted,
    results_for,
    retargeted_results,
)
from fieldtune.server.results.fingerprint import read_fingerprint
from fieldtune.server.results.model_files import read_card
from fieldtune.server.results.run_folder import RunFolder, read_summary
from fieldtune.server.results.schema import Summary
from fieldtune.server.results.stored_files import CardData, VariantFile
from fieldtune.server.study.config import StudyConfig


@dataclass(frozen=True)
class Offer:
    """A model for a device type."""

    card: Card
    model: bytes


def offers(run: Path, variant: str) -> dict[str, Offer]:
    """Device type -> what the run recommends for it.

    Args:
        run: its folder.
        variant: which conversion of the models.

    Raises:
        RunFolderError: there is nothing to deploy, or a file is missing or damaged.
        UsageError: the study makes no such variant.
    """
    results = [read_summary(run), *retargeted_results(run)]
    types = {device for each in results for device in each.devices}
    with RunFolder(run) as folder:
        study, known = folder.study, read_fingerprint(folder)
    found = {}
    for device in sorted(types):
        summary = results_for(run, device)
        if device not in summary.recommended:
            continue
        trial = chosen_trial(summary, device, None)
        if not is_converted(run, summary, trial):
            raise RunFolderError(
                f"{run} has no measured files of trial {trial} yet: run the study's 'fieldtune "
                "tune' command to its end"
            )
        model, card = exported_model(run, trial, variant), read_card(run, trial)
        data = card.data or CardData(
            source=study.task.data or "",
            input_shape=known.input_shape if known else (),
            classes=known.classes if known and not study.task.reconstructs else 0,
        )
        found[device] = Offer(
            _card(study, summary, device, trial, variant, card.variants[variant], data), model
        )
    if not found:
        raise RunFolderError(f"{run} recommends nothing for any device type: nothing to deploy")
    return found


def _card(
    study: StudyConfig,
    summary: Summary,
    device: str,
    trial: int,
    variant: str,
    file: VariantFile,
    data: CardData,
) -> Card:
    caps = study.limits.devices.get(device)
    limits = (caps.inference_ms if caps else None, study.limits.inference_ms)
    return Card(
        study=summary.study,
        trial=trial,
        variant=variant,
        artefact=file.sha256,
        size=file.bytes,
        data=data.source,
        loss=study.task.loss,
        metric=study.task.metric,
        input_shape=data.input_shape,
        classes=data.classes,
        labels=data.labels,
        offset=data.offset,
        scale=data.scale,
        inference_limit_ms=next((limit for limit in limits if limit is not None), None),
        **_error(file, study.task.metric),
    )


def _error(file: VariantFile, metric: str) -> Mapping[str, float | int]:
    """The share of test samples that the file gets wrong, with its interval, where counted."""
    if file.classes is not None:
        samples = sum(file.classes.actual)
        error = 1 - sum(file.classes.hits) / samples
    elif metric == "accuracy" and "error" in file.measures:  # of a version that did not count
        samples, error = file.test_samples, file.measures["error"]
    else:
        return {}
    low, high = wilson(error, samples)
    return {"error": error, "error_low": low, "error_high": high, "test_samples": samples}
