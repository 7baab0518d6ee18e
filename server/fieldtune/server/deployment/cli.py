"""Commands on a coordinator's folder: ``fieldtune coordinator ...``."""

from __future__ import annotations

import getpass
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fieldtune.profiles.common.errors import DeploymentError, UsageError

if TYPE_CHECKING:
    from fieldtune.server.deployment.folder import CoordinatorFolder

app = typer.Typer(
    help="Run the coordinator of real devices, and enroll devices.",
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
            "--any-client",
            help="Let devices without a client certificate try to connect, such as Flower's own "
            "SuperNode.",
        ),
    ] = False,
) -> None:
    """Create a coordinator's folder.

    It has keys and certificates, a proxy configuration, a systemd unit and a README.
    """
    from pydantic import ValidationError

    from fieldtune.profiles.common.validation import first_error
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.deployment.settings import Settings, this_machine

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
    write_for_this_machine(CoordinatorFolder.create(folder, settings))
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
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The device's name.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Enroll the devices named in this file, one name a line."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Bundle to write.  [default: DIR/bundles/NAME.bundle.toml]"
        ),
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="A new key and bundle for an enrolled device, which keeps its number; the old "
            "bundle no longer works.",
        ),
    ] = False,
) -> None:
    """Create a device's key and write its bundle.

    The bundle is the one file to copy onto the device.
    """
    from fieldtune.server.deployment.device_files import names_in
    from fieldtune.server.deployment.folder import CoordinatorFolder

    if (name is None) == (file is None):
        raise UsageError("Give either a device's NAME or --file FILE")
    if file is not None and out is not None:
        raise UsageError("--out names one bundle: it cannot be used with --file")
    coordinator = CoordinatorFolder(folder)
    names = [name] if name is not None else names_in(file or Path())
    enrolled = coordinator.devices()
    if file is not None and not renew:
        there = {device.name for device in enrolled}
        for known in filter(there.__contains__, names):
            _note(f"{known} is enrolled already: left as it is")
        names = [each for each in names if each not in there]
    for each in names:
        device, bundle = coordinator.renew_device(each) if renew else coordinator.enroll(each)
        target = out or coordinator.bundle_file(each)
        try:
            bundle.write(target)
        except BaseException:
            if not renew:
                coordinator.remove(each)  # its key is lost, so it must not count as enrolled
            raise
        typer.echo(target)
        _note(f"{each} is device {device.number}")
    if not names:
        return
    if coordinator.superlink_listens():
        from fieldtune.server.deployment.superlink_control import register_devices

        for sentence in register_devices(coordinator):
            _note(sentence)
        _note("May connect now")
    else:
        _note("May connect once the coordinator runs")
    _note(
        "A bundle holds the device's private key: copy it there, then remove it here. On the "
        f"device: 'fieldtune client install {target.name} --data PATH'"
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
def readmit(folder: Folder, name: Name) -> None:
    """Let a device that sits out take part again.

    It sits out because its reports were refused.
    """
    from fieldtune.server.deployment.folder import CoordinatorFolder

    if CoordinatorFolder(folder).readmit(name):
        typer.echo(f"{name} takes part again, also in a study that is running")
    else:
        typer.echo(f"{name} does not sit out: nothing is changed")


@app.command()
def backup(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write (.tar.gz).")],
) -> None:
    """Write settings, keys and enrolled devices to one file.

    The coordinator may be running.
    """
    from fieldtune.server.deployment.backup import back_up
    from fieldtune.server.deployment.folder import CoordinatorFolder

    count = back_up(CoordinatorFolder(folder), file)
    devices = "device" if count == 1 else "devices"
    typer.echo(f"{file}: the coordinator of {folder} with {count} {devices}")
    _note("It contains the keys of the fleet: keep it private. Run folders are not in it")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that 'backup' has written.")],
    folder: Folder,
) -> None:
    """Make a coordinator's folder from a backup.

    The backup may be of another machine.
    """
    from fieldtune.server.deployment.backup import restore

    made = restore(file, folder)
    write_for_this_machine(made)
    typer.echo(f"{folder}: a coordinator that devices reach at {made.settings.address}")
    _note(
        "Devices that were removed after the backup may connect again, those enrolled after it "
        f"may not: 'fieldtune coordinator devices {folder}' lists them. Never run two coordinators "
        "with the same keys at a time"
    )


@app.command()
def renew(folder: Folder) -> None:
    """Issue a new server certificate; devices need no change.

    It is signed by the same authority.
    """
    from fieldtune.server.deployment.certificates import expires
    from fieldtune.server.deployment.folder import CoordinatorFolder
    from fieldtune.server.deployment.systemd import readme

    coordinator = CoordinatorFolder(folder)
    coordinator.renew()
    coordinator.write("README.txt", readme(coordinator))
    ends = expires(coordinator.server_certificate)
    typer.echo(f"The certificate is valid until {ends:%Y-%m-%d}; restart the coordinator to use it")


def write_for_this_machine(coordinator: CoordinatorFolder) -> None:
    """Write the files that depend on where the folder is: proxy, systemd unit, README."""
    from fieldtune.server.deployment.nginx import nginx_configuration
    from fieldtune.server.deployment.systemd import UNIT, readme, systemd_unit

    path, settings = coordinator.path, coordinator.settings
    coordinator.write("nginx.conf", nginx_configuration(path, settings))
    command = Path(shutil.which("fieldtune") or sys.argv[0]).resolve()
    unit = systemd_unit(path, command=command, user=getpass.getuser(), port=settings.port)
    coordinator.write(UNIT, unit)
    coordinator.write("README.txt", readme(coordinator))


def _note(sentence: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(sentence, markup=False)
