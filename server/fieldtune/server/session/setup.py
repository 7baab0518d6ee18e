"""The parts of a study that need no tuner: compiler, artefacts, cost model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import FleetError, InfeasibleError, MissingExtraError
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.costs.architecture_costs import FleetCosts
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.feasible_space import (
    SAMPLED_ARCHITECTURES,
    SAMPLED_CONFIGURATIONS,
    distance,
    impossible,
    screen,
    sufficing,
)
from fieldtune.server.costs.smallest import needed_by_any_model, too_narrow
from fieldtune.server.processes.child import Spawn
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig

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
    profiles = _profiles(study, members)
    if folder is None:
        return CostModel(study, members, profiles)
    return CostModel(
        study,
        members,
        profiles,
        kept=folder.read(COSTS_FILE),
        keep=lambda text: folder.write(COSTS_FILE, text),
    )


def check_limits(study: StudyConfig, members: Sequence[Description], artefacts: Artefacts) -> None:
    """Refuse limits that nothing can keep, as far as that is known before anything is compiled.

    Raises:
        InfeasibleError: of the study's models, which all are in the artefact cache, none keeps the
            limits; or some are not, and not even a model of no size does.
    """
    sample = study.full_space.sample(SAMPLED_CONFIGURATIONS, study.study.seed)
    architectures = {study.architecture(each): each for each in sample}
    compiled = {key for key, each in architectures.items() if artefacts.is_compiled(each)}
    costs, found = make_cost_model(study, members), list[FleetCosts]()
    for each in sample:
        if study.architecture(each) in compiled:
            costs.learn(each, artefacts.of(each).result().manifest)
            found.append(costs.of(each, {}))
            if found[-1].feasible:
                return
    if len(compiled) == len(architectures) <= SAMPLED_ARCHITECTURES:
        screening = screen(study, costs, artefacts, seed=study.study.seed)
        raise InfeasibleError(impossible(study, screening))
    if needed := needed_by_any_model(study, members, _profiles(study, members)):
        would_do = sufficing(study, costs.fleet, min(found, key=distance)) if found else {}
        raise too_narrow(study, needed, (len(compiled), len(architectures)), would_do)


def _profiles(study: StudyConfig, members: Sequence[Description]) -> dict[str, DeviceProfile]:
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
