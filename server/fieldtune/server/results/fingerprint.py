"""What a run rests on beside its study file: data, partition, a trace, the user's code, versions.

It is kept in the run folder as ``fingerprint.json``. A run that goes on with something else would
compare trials that cannot be compared.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import CompileError, RunFolderError
from fieldtune.server.compiler.cache import package_versions
from fieldtune.server.compiler.sources import source_hashes
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.study.changes import Change
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.data_facts import DataFacts

FILE = "fingerprint.json"
_PACKAGES = ("fieldtune", "optuna", "scipy", "flwr")
"""Packages that results depend on, beside those of the compiler."""


class Fingerprint(BaseModel):
    """SHA-256 of each thing, in hexadecimal; what is not known is empty.

    Attributes:
        input_shape: of one sample.
        classes: number of classes.
        data: of samples, labels and owners; of a study on devices it is not known.
        partition: of which sample is which client's.
        trace: of the file that says when simulated clients are there.
        sources: key of ``[task]``, or ``server.aggregation`` -> module -> of its source.
        versions: package -> version.
    """

    model_config = ConfigDict(frozen=True)

    input_shape: tuple[int, ...] = ()
    classes: int = 0
    data: str = ""
    partition: str = ""
    trace: str = ""
    sources: Mapping[str, Mapping[str, str]] = {}
    versions: Mapping[str, str] = {}


def fingerprint(
    study: StudyConfig,
    member: Description,
    facts: DataFacts | None,
    import_path: Sequence[str],
    base: Path = Path(),
) -> Fingerprint:
    """The fingerprint of a study as it is now.

    Args:
        study: the study.
        member: a client of the fleet.
        facts: of the data; None on devices.
        import_path: the folders in which the user's modules are found.
        base: folder of the study file, in which a trace lies.
    """
    availability = study.fleet.availability
    trace = base / availability.file if facts and availability and availability.file else None
    of_models = [name for name in study.task.models if ":" in name]
    of_metric = [study.task.metric] if study.task.own_metric else []
    of_aggregation = [study.server.aggregation] if study.server.own_aggregation else []
    versions = {**package_versions(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Fingerprint(
        input_shape=member.input_shape,
        classes=member.classes,
        data=facts.data_sha256 if facts else "",
        partition=facts.partition_sha256 if facts else "",
        trace=hashlib.sha256(trace.read_bytes()).hexdigest() if trace else "",
        sources={
            key: dict(_hashes(names, import_path))
            for key, names in (
                ("model", of_models),
                ("metric", of_metric),
                ("server.aggregation", of_aggregation),
            )
            if names
        },
        versions=versions,
    )


def _hashes(names: Sequence[str], import_path: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield from source_hashes(name.partition(":")[0], import_path, sys.path).items()
        except CompileError:
            continue  # a metric that only the devices have


def check_fingerprint(
    folder: RunFolder,
    now: Fingerprint,
    *,
    any_trials: bool,
    accept: Callable[[Sequence[Change]], None] | None,
) -> None:
    """Compare a run's fingerprint with the one in its folder, and keep it there.

    Args:
        folder: of the run.
        now: what it would go on with.
        any_trials: whether it has trials yet; without, any change is allowed, and the rounds that
            were trained before it are done again.
        accept: stores changes that the user accepts; None where they are to be refused.

    Raises:
        RunFolderError: something has changed.
        StorageError: the file cannot be written.
    """
    before = read_fingerprint(folder)
    if before is None and any_trials and accept is None and folder.read(FILE) is not None:
        raise RunFolderError(
            f"{folder.path / FILE} is damaged, so it is not known whether data, code and versions "
            "are those of its trials: restore it, or go on all the same with --accept-changes"
        )
    found = list(differences(before, now)) if before else []
    if found and not any_trials:
        for trial in folder.open_checkpoints(()):
            folder.checkpoint(trial).remove()
    elif found:
        if accept is None:
            raise RunFolderError(
                f"{folder.path} was begun with other input: {'; '.join(map(str, found))}. Its "
                "trials and new ones would not be comparable: choose another folder with --out, or "
                "go on all the same with --accept-changes"
            )
        accept(found)
    if before != now:
        folder.write(FILE, now.model_dump_json(indent=1) + "\n")


def read_fingerprint(folder: RunFolder) -> Fingerprint | None:
    """The fingerprint in a run folder; None where there is none, or a damaged one."""
    try:
        text = folder.read(FILE)
        return None if text is None else Fingerprint.model_validate_json(text)
    except ValidationError:
        return None


def differences(before: Fingerprint, now: Fingerprint) -> Iterator[Change]:
    """What has changed; a thing that one of them does not know counts as unchanged."""
    for key, name in (
        ("data", "data"), ("partition", "partition"), ("trace", "fleet.availability.file"),
    ):  # fmt: skip
        a, b = getattr(before, key), getattr(now, key)
        if a and b and a != b:
            yield Change(key=name, before=a[:12], after=b[:12])
    for key in before.sources.keys() & now.sources.keys():
        for module, a, b in _changed(before.sources[key], now.sources[key]):
            name = key if "." in key else f"task.{key}"
            yield Change(key=f"source of {name} ({module})", before=a[:12], after=b[:12])
    for package, a, b in _changed(before.versions, now.versions):
        yield Change(key=f"version of {package}", before=a, after=b)


def _changed(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield key, a.get(key, "absent"), b.get(key, "absent")
