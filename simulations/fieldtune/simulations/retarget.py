"""``fieldtune retarget`` with a simulated fleet."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console

from fieldtune.profiles.common.console import table_console
from fieldtune.profiles.common.errors import RunFolderError, UsageError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.calibration import corrections
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.report.prospects import print_prospects
from fieldtune.server.report.run_info import RunInfo
from fieldtune.server.report.table import print_summary
from fieldtune.server.results.export import retargeted_file
from fieldtune.server.results.model_files import with_variants
from fieldtune.server.results.retarget import retarget
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import to_json
from fieldtune.server.results.variants import VariantMaker
from fieldtune.server.session.session import known_costs, open_tuner
from fieldtune.server.session.setup import compile_service, make_artefacts, make_cost_model
from fieldtune.simulations.check import closing
from fieldtune.simulations.fleet.fleet import SimulatedFleet
from fieldtune.simulations.fleet.plan import FleetPlan


def retarget_in_simulation(path: Path, device: str, *, as_json: bool = False) -> None:
    """Print a study's results for a device type that was not in its fleet, without training."""
    load_profile(device)
    notes = Console(stderr=True)
    with RunFolder(path) as folder:
        folders = [folder.study_folder, path.resolve()]
        import_path = [*map(str, folders), str(Path.cwd())]
        tuner = open_tuner(folder, import_path)
        outcomes = tuner.history()
        study = folder.study
        completed = [outcome for outcome in outcomes if isinstance(outcome, Completed)]
        if not completed:
            raise RunFolderError(f"{path} has no finished trial yet: run 'fieldtune tune' first")
        if study.task.data is None:
            raise UsageError(
                f"{path} is from a study on devices without task.data, so there is no data to "
                "simulate its clients with: set task.data to similar data and run the study "
                "again"
            )
        data = study.task.data
        if not all(outcome.learned.simulated for outcome in completed):
            notes.print(
                f"{path} is from a study on devices, whose data is not available here: costs are "
                f"computed for {study.fleet.clients} simulated clients that share {data}.",
                highlight=False, soft_wrap=True, markup=False,
            )  # fmt: skip
        base = next((each for each in folders if (each / data).is_dir()), path)
        with (
            tempfile.TemporaryDirectory(prefix="fieldtune-") as scratch,
            closing(compile_service(Path(scratch), import_path)) as service,
            SimulatedFleet(
                FleetPlan.of(study, base),
                workers=1,
                import_path=import_path,
                log=Path(scratch) / "log",
            ) as fleet,
            notes.status("re-evaluating the trials"),
        ):
            members = fleet.members()
            artefacts = make_artefacts(study, members, service)
            known = known_costs(study, make_cost_model(study, members), artefacts, outcomes)
            known.calibrate(corrections(outcomes))
            predicted = tuner.predict(outcomes, known)
            compared = tuner.predict(outcomes, sampling=False)
            found = retarget(study, outcomes, members, device, artefacts, predicted, compared)
            if all(outcome.learned.simulated for outcome in completed):
                bounds = Bounds(members, lambda sentence: None)
                maker = VariantMaker(folder, artefacts, service, fleet, members, bounds)
                maker.make(found.summary.exported, outcomes)
            summary = with_variants(folder, found.summary)
            folder.write(retargeted_file(device), to_json(summary))
    if as_json:
        typer.echo(to_json(summary))
        return
    found = replace(found, summary=summary)
    print_summary(found.summary, table_console(), RunInfo(folder=str(path)))
    print_prospects(found, device, table_console())
