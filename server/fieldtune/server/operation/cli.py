"""``fieldtune deploy`` and ``rollback``, ``fieldtune coordinator devices`` and ``watch``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fieldtune.profiles.common.command import Format
from fieldtune.profiles.common.console import table_console
from fieldtune.profiles.common.errors import DeploymentError, FleetError, UsageError

if TYPE_CHECKING:
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.operation.rollouts import Rollout
    from fieldtune.server.operation.tables import Watched

_LOOK_S = 10.0
"""A device that does not answer within this time, such as one at work, is shown as before."""

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]
Superlink = Annotated[Path, typer.Option(metavar="DIR", help="The coordinator's folder.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|TYPE", help="A device or a device type; can be repeated.  [default: all]"
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until every device has answered.")]


def deploy(
    superlink: Superlink,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            help="Run folder of a study; without one, deliver what devices that were off wait for.",
        ),
    ] = None,
    device: Devices = None,
    variant: Annotated[str, typer.Option(help="Which conversion of the model.")] = "fp32",
    canary: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Deploy on this share of each device type first, such as 10%, or on so many "
            "devices; on the others only if all of these switch.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Switch even where the model is worse than its card says."),
    ] = False,
    wait: Wait = False,
    format: Format = "table",
) -> None:
    """Send devices the model that a run recommends for their type.

    A device tries it first, and keeps what it has if that is better.
    """
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.operation.deploy import deliver_waiting
    from fieldtune.server.operation.deploy import deploy as deploy_run

    folder = CoordinatorFolder(superlink)
    if run is None:
        if device or canary or force:
            raise UsageError("--device, --canary and --force need a RUN to deploy")
        rollouts = deliver_waiting(folder, wait=wait, notes=_note)
        if not rollouts:
            _note("No device waits for anything")
    else:
        rollouts = [
            deploy_run(
                folder, run, chosen=device or [], variant=variant, canary=_share_or_count(canary),
                force=force, wait=wait, notes=_note,
            )
        ]  # fmt: skip
    _finish(folder, rollouts, format == "json")


def rollback(
    superlink: Superlink, device: Devices = None, wait: Wait = False, format: Format = "table"
) -> None:
    """Have devices run the model before again.

    Without --device, those of the last deployment.
    """
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.operation.deploy import roll_back

    folder = CoordinatorFolder(superlink)
    rollout = roll_back(folder, chosen=device or [], wait=wait, notes=_note)
    _finish(folder, [rollout], format == "json")


def devices(
    folder: Folder,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every 10 seconds, until Ctrl-C.")
    ] = False,
    format: Format = "table",
) -> None:
    """Show the devices: who is connected, runs what, has problems."""
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.operation.tables import devices_json, print_devices

    coordinator = CoordinatorFolder(folder)
    if watch:
        _show_again_and_again(coordinator, folder, table_console())
        return
    watched = _asked(coordinator)
    if format == "json":
        typer.echo(json.dumps(devices_json(watched, folder), indent=1))
    else:
        print_devices(watched, table_console(), folder)


def watch(
    folder: Folder,
    every: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="Time between two passes.")
    ] = 60.0,
    metrics: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Serve Prometheus metrics to this machine."
        ),
    ] = None,
) -> None:
    """Ask the devices again and again, until Ctrl-C.

    Delivers models that devices wait for, and says what is wrong with whom.
    """
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.operation.watch import watch as watch_fleet

    watch_fleet(CoordinatorFolder(folder), every, _note, metrics)


def _share_or_count(canary: str | None) -> tuple[float | None, int | None]:
    """``10%`` as a share, ``2`` as a number of devices."""
    if canary is None:
        return None, None
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%|(\d{1,6})", canary.strip())
    share = float(found[1]) / 100 if found and found[1] else None
    count = int(found[2]) if found and found[2] else None
    if found is None or count == 0 or (share is not None and not 0 < share <= 1):
        raise UsageError(f"--canary {canary!r}: give a share such as 10%, or a number of devices")
    return share, count


def _finish(folder: CoordinatorFolder, rollouts: list[Rollout], as_json: bool) -> None:
    """Print who runs what; an error where a device did not follow."""
    from fieldtune.server.operation.tables import Watched, print_rollout, rollout_json

    watched = Watched.of(folder, None)
    if as_json:
        typer.echo(json.dumps(rollout_json(rollouts, watched), indent=1))
    else:
        for each in rollouts:
            print_rollout(each, watched, table_console())
    members = [member for each in rollouts for member in each.devices.values()]
    kept = sum(member.state in ("kept", "left out", "stopped") for member in members)
    if kept:
        devices = "device" if len(members) == 1 else "devices"
        go = "goes" if kept == 1 else "go"
        raise FleetError(f"{kept} of {len(members)} {devices} {go} on as before")


def _asked(folder: CoordinatorFolder) -> Watched:
    """The state of the fleet, asked now if no study uses the devices."""
    from fieldtune.server.deployment.superlink_control import connected_devices
    from fieldtune.server.operation.deploy import delivering
    from fieldtune.server.operation.tables import Watched

    try:
        connected = {node.name for node in connected_devices(folder)}
    except FleetError as away:
        _note(str(away))
        return Watched.of(folder, None)
    if connected:
        try:
            with delivering(folder, _note) as delivery:
                delivery.ask_status(limit_s=_LOOK_S)
        except DeploymentError:
            _note("A study uses the devices: shown is what they said before")
    return Watched.of(folder, connected)


def _show_again_and_again(folder: CoordinatorFolder, given: Path, console: Console) -> None:
    import time
    from contextlib import suppress

    from fieldtune.server.operation.tables import Watched, print_devices
    from fieldtune.server.operation.watch import Watch

    watching = Watch(folder, lambda _: None)
    try:
        with suppress(KeyboardInterrupt):
            while True:
                watching.step()
                console.clear()
                print_devices(Watched.of(folder, watching.connected), console, given)
                time.sleep(10.0)
    finally:
        watching.close()


def _note(sentence: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)
