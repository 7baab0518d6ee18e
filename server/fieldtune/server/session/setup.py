"""The parts of a study that need no tuner: compiler, artefacts, cost model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import FleetError, MissingExtraError
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.processes.child import Spawn
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration

COSTS_FILE = "costs.json"
"""In the run folder: the cost coefficients of each compiled architecture."""


def compile_service(
    folder: Path, import_path: Sequence[str], spawn: Spawn | None = None
) -> CompileService:
    """The compiler with the user's artefact cache; its log goes to the run folder.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError("Compiling a model", "server", "tensorflow")
    return CompileService(
        ArtefactCache(), import_path=list(import_path), log=folder / "compiler.log", spawn=spawn
    )


def make_cost_model(
    study: StudyConfig, members: Sequence[Description], folder: RunFolder | None = None
) -> CostModel:
    """The cost model for all device types of the study, including those without a connected client.

    Args:
        study: of the run.
        members: the fleet's clients.
        folder: the run folder, in which the coefficients are kept; None: they are not kept.
    """
    profiles = profiles_of(study, members)
    if folder is None:
        return CostModel(study, members, profiles)
    return CostModel(
        study,
        members,
        profiles,
        kept=folder.read(COSTS_FILE),
        keep=lambda text: folder.write(COSTS_FILE, text),
    )


def model_defaults(study: StudyConfig) -> list[Configuration]:
    """The defaults, with each model of the study."""
    defaults = study.full_space.defaults()
    if len(study.task.models) == 1:
        return [defaults]
    return [
        replace(defaults, model={**defaults.model, "model": model}) for model in study.task.models
    ]


def profiles_of(study: StudyConfig, members: Sequence[Description]) -> dict[str, DeviceProfile]:
    """The profiles of all device types of the study and its clients."""
    names = {*study.fleet.devices, *(member.profile for member in members)}
    return {name: load_profile(name) for name in sorted(names)}


def make_artefacts(
    study: StudyConfig, members: Sequence[Description], service: CompileService
) -> Artefacts:
    """Compiles the study's models for the input shape and classes of the fleet's data.

    Raises:
        FleetError: the clients' data differ in input shape or number of classes.
    """
    shapes = {(member.input_shape, member.classes) for member in members}
    if len(shapes) != 1:
        raise FleetError(
            f"The clients' data differ in (input shape, classes): {sorted(shapes)}; "
            "give all of them data of one kind"
        )
    input_shape, classes = shapes.pop()
    return Artefacts(study, input_shape, classes, service)
