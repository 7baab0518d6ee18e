"""``fieldtune tune STUDY.toml --superlink DIR``: a study on the connected devices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fieldtune.profiles.common.errors import DeploymentError
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.devices.needs import needed_contract
from fieldtune.server.devices.status_polls import StatusPolls
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.command import Notes, OpenedFleet, run_study
from fieldtune.server.study.load import load_study


def tune_on_devices(
    study_file: Path,
    out: Path | None,
    coordinator: Path,
    *,
    trials: int | None,
    seed: int | None,
    warm_start: Sequence[Path] = (),
    accept_changes: bool = False,
    as_json: bool = False,
) -> None:
    """Run or resume a study on a coordinator's devices.

    Args:
        study_file: ``fleet.clients`` is the number of connected devices that it needs to start,
            and ``fleet.devices`` the types that take part; for a type without a connected device,
            costs are still predicted.
        out: run folder.
        coordinator: the coordinator's folder, on this machine.
        trials: replaces that of the study file.
        seed: likewise.
        warm_start: folders of finished runs, as prior knowledge.
        accept_changes: go on with code or versions that have changed since the run began.
        as_json: print the result as JSON.

    Raises:
        DeploymentError: the folder is not a coordinator's, has too few devices, or another study
            uses it.
        FleetError: SuperLink does not answer.
    """
    coordinator_folder = CoordinatorFolder(coordinator)
    study = load_study(study_file)
    for name in study.fleet.devices:
        load_profile(name)

    def numbers() -> dict[str, int]:
        return {device.name: device.number for device in coordinator_folder.devices()}

    enrolled = numbers()
    if len(enrolled) < study.fleet.clients:
        raise DeploymentError(
            f"fleet.clients = {study.fleet.clients}, but only {len(enrolled)} devices are enrolled "
            f"in {coordinator}: lower it, or 'fieldtune coordinator enroll {coordinator} NAME'"
        )

    @contextmanager
    def connected(
        folder: RunFolder, import_path: Sequence[str], note: Notes, waiting: Notes
    ) -> Iterator[OpenedFleet]:
        from fieldtune.client.node.signatures import Signer
        from fieldtune.server.deployment.superlink_control import ENVIRONMENT
        from fieldtune.server.devices.superlink_run import SuperLinkRun

        os.environ.update(ENVIRONMENT)
        with coordinator_folder.in_use(notes=note):
            coordinator_folder.note_run(folder.path)
            fleet = DeviceFleet(
                lambda: SuperLinkRun(coordinator_folder, note, waiting),
                enrolled,
                profiles=study.fleet.devices,
                wanted=study.fleet.clients,
                notes=note,
                needs=needed_contract(study),
                sign=Signer(coordinator_folder.authority_key),
                renumber=numbers,
                waiting=waiting,
                status=StatusPolls(FleetState(coordinator_folder.path).keep),
            )
            try:
                yield fleet, None
            except BaseException as ended:
                fleet.close(failed=type(ended).__name__)
                raise
            fleet.close()

    run_study(
        study_file, out, trials=trials, seed=seed, warm_start=warm_start, fleet_of=connected,
        refusals=coordinator_folder, accept_changes=accept_changes, as_json=as_json,
    )  # fmt: skip
