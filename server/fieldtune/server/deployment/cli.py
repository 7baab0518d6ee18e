"""Commands on a coordinator's folder: ``fieldtune coordinator ...``."""

from __future__ import annotations

import getpass
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fieldtune.profiles.common.errors import DeploymentError, FleetError

app = typer.Typer(
    help="Run the coordinator of a fleet of real devices, and enroll devices.",
    no_args_is_help=True,
    add_completion=False,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The device's name.")]


@app.command()
def init(
    folder: Folder,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name or address under which devices reach this machine; may be given "
            "several times, bundles contain the first.  [default: this machine's name]",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port that devices connect to.")
    ] = 8443,
    superlink_port: Annotated[
        int, typer.Option(min=1, max=65535, help="SuperLink's own port, on loopback only.")
    ] = 18443,
    any_client: Annotated[
        bool,
        typer.Option(
            help="Let devices without a client certificate try to connect, such as Flower's own "
            "SuperNode."
        ),
    ] = False,
) -> None:
    """Create a coordinator's folder: certificates, proxy configuration, systemd unit, a README."""
    from pydantic import ValidationError

    from fieldtune.profiles.common.validation import first_error
    from fieldtune.server.deployment.folder import CoordinatorFolder, Settings, this_machine
    from fieldtune.server.deployment.nginx import nginx_configuration
    from fieldtune.server.deployment.systemd import UNIT, readme, systemd_unit

    if port == superlink_port:
        raise DeploymentError(f"--port and --superlink-port are both {port}: they must differ")
    try:
        settings = Settings(
            hosts=tuple(host or [this_machine()]),
            port=port,
            superlink_port=superlink_port,
            client_certificates="optional" if any_client else "required",
        )
    except ValidationError as wrong:
        raise DeploymentError(first_error(wrong, Settings, key=lambda _: "--host")) from None
    made = CoordinatorFolder.create(folder, settings)
    made.write("nginx.conf", nginx_configuration(made.path, settings))
    command = Path(shutil.which("fieldtune") or sys.argv[0]).resolve()
    made.write(UNIT, systemd_unit(made.path, command=command, user=getpass.getuser(), port=port))
    made.write("README.txt", readme(made))
    typer.echo(f"{folder}: a coordinator that devices reach at {settings.address}")
    _note(
        f"Next: 'fieldtune coordinator start {folder}', and 'fieldtune coordinator enroll {folder} "
        f"NAME' for each device; {folder / 'README.txt'} has the details"
    )


@app.command()
def start(folder: Folder) -> None:
    """Run SuperLink and the proxy in the foreground, until Ctrl-C."""
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.deployment.supervisor import serve

    serve(CoordinatorFolder(folder), _note)


@app.command()
def enroll(
    folder: Folder,
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Bundle to write.  [default: DIR/bundles/NAME.bundle.toml]"
        ),
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            help="A new key and bundle for an enrolled device, which keeps its number; the old "
            "bundle is worth nothing from now on."
        ),
    ] = False,
) -> None:
    """Create a device's key and write its bundle: the one file to copy onto the device."""
    from fieldtune.server.deployment.folder import CoordinatorFolder

    coordinator = CoordinatorFolder(folder)
    device, bundle = coordinator.renew_device(name) if renew else coordinator.enroll(name)
    file = out or coordinator.bundle_file(name)
    try:
        bundle.write(file)
    except BaseException:
        if not renew:
            coordinator.remove(name)  # its key is lost, so it must not count as enrolled
        raise
    if coordinator.superlink_listens():
        from fieldtune.server.deployment.superlink_control import register_devices

        for sentence in register_devices(coordinator):
            _note(sentence)
        _note(f"{name} is device {device.number} and may connect now")
    else:
        _note(f"{name} is device {device.number}; it may connect once the coordinator runs")
    typer.echo(file)
    _note(
        "It holds the device's private key: copy it there, then remove it here. On the device: "
        f"'fieldtune client install {file.name} --data PATH'"
    )


@app.command()
def remove(folder: Folder, name: Name) -> None:
    """Revoke a device's key, for example when it was lost or stolen."""
    from fieldtune.server.deployment.folder import CoordinatorFolder

    coordinator = CoordinatorFolder(folder)
    coordinator.remove(name)
    if coordinator.superlink_listens():
        from fieldtune.server.deployment.superlink_control import register_devices

        register_devices(coordinator)
        typer.echo(f"{name} is removed and can no longer connect")
    else:
        typer.echo(f"{name} is removed; a coordinator that starts will not accept it")


@app.command()
def devices(folder: Folder) -> None:
    """List the enrolled devices, and which of them are connected."""
    from rich.table import Table

    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.deployment.superlink_control import connected_devices
    from fieldtune.server.federation.refusals import Refused

    coordinator = CoordinatorFolder(folder)
    try:
        connected = {node.name for node in connected_devices(coordinator)}
    except FleetError as away:
        connected = set()
        _note(str(away))
    refused = coordinator.refused()
    table = Table("number", "device", "connected", "refused reports", "takes part", box=None)
    for device in coordinator.devices():
        of = refused.get(device.name, Refused())
        table.add_row(
            str(device.number),
            device.name,
            "yes" if device.name in connected else "no",
            str(of.count),
            f"no: {of.why}" if of.sits_out else "yes",
        )
    Console().print(table)


@app.command()
def readmit(folder: Folder, name: Name) -> None:
    """Let a device take part again that sits out because its reports were refused."""
    from fieldtune.server.deployment.folder import CoordinatorFolder

    if CoordinatorFolder(folder).readmit(name):
        typer.echo(f"{name} takes part again, also in a study that is running")
    else:
        typer.echo(f"{name} does not sit out: nothing is changed")


@app.command()
def renew(folder: Folder) -> None:
    """Issue a new server certificate from the same authority; devices need no change."""
    from fieldtune.server.deployment.certificates import expires
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.deployment.systemd import readme

    coordinator = CoordinatorFolder(folder)
    coordinator.renew()
    coordinator.write("README.txt", readme(coordinator))
    ends = expires(coordinator.server_certificate)
    typer.echo(f"The certificate is valid until {ends:%Y-%m-%d}; restart the coordinator to use it")


def _note(sentence: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)
