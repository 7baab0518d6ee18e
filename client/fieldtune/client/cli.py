"""``fieldtune client``: the commands for a device's owner. They need only the base install."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldtune.profiles.common.command import Format

if TYPE_CHECKING:
    from fieldtune.client.contract.bundle import Bundle
    from fieldtune.client.service.systemd import Service

# Set before Flower is imported: no telemetry, no update check.
for _name, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}.items():
    os.environ.setdefault(_name, _value)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Take part in studies as a device, with its own data.",
)

BundleFile = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", help="The file from the coordinator: NAME.bundle.toml."),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="PATH", help="The device's own data: a folder, or package.module:function."
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Device profile.  [default: detected]"),
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(
        "--privacy",
        metavar="KEY=VALUE",
        help="What the coordinator may do, over [privacy] in data.toml, such as clip_norm=1.0; "
        "may be repeated.",
    ),
]


@app.command()
def run(bundle: BundleFile, data: Data, profile: Profile = None, privacy: Allowed = None) -> None:
    """Serve the coordinator in the foreground until Ctrl-C."""
    from fieldtune.client.node.no_grpc import without_grpc

    without_grpc()
    from fieldtune.client.node.run import run_client

    _log_to_stderr()
    run_client(bundle, data, profile=profile, privacy=privacy or ())


@app.command()
def install(
    bundle: BundleFile,
    data: Data,
    profile: Profile = None,
    memory_mib: Annotated[
        int | None,
        typer.Option(
            metavar="MIB", min=160, help="Memory limit.  [default: 60 % of the board's memory]"
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="User to run as.  [default: the owner of the data]"),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="HTTP proxy between device and coordinator, such as http://proxy.local:3128; it "
            "must allow CONNECT.  [default: $HTTPS_PROXY]",
        ),
    ] = None,
    privacy: Allowed = None,
    show: Annotated[
        bool, typer.Option("--print", help="Print the systemd unit and install nothing.")
    ] = False,
) -> None:
    """Install the client as a systemd service, and start it.

    It starts with the board from then on.
    """
    from fieldtune.client.service.systemd import install as install_service

    service, read = _service(bundle, data, profile, memory_mib, user, proxy, privacy or [])
    if show:
        typer.echo(service.text(), nl=False)
        return
    unit = install_service(service, read)
    typer.echo(f"{unit}: started; 'fieldtune client status' shows its state")
    typer.echo(f"its log: journalctl -u {service.unit} -f")


@app.command()
def status(format: Format = "table") -> None:
    """Show this machine's clients, and whether they are connected."""
    from fieldtune.client.service.status import print_statuses

    print_statuses(as_json=format == "json")


@app.command()
def predict(
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE|-]",
            help="Raw samples: .csv, .npy, .npz or an image; -: lines of numbers on stdin.",
        ),
    ] = "-",
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose model.  [default: that of the only one on this machine]"
        ),
    ] = None,
    format: Format = "table",
) -> None:
    """Run the deployed model on samples.

    Prints a line for each, with its class and the probability.
    """
    import json

    from fieldtune.client.deployed.model import load
    from fieldtune.client.deployed.samples import lines_of, samples_of
    from fieldtune.client.service.quiet import without_notices

    with without_notices():
        model = load(device)
    samples = (
        lines_of(sys.stdin, "stdin") if file == "-" else samples_of(Path(file), model.input_shape)
    )
    for sample in samples:
        found = model.predict(sample)
        if model.card.reconstructs:
            told: dict[str, object] = {"distance": found.distance}
            line = f"{found.distance:.4g}"
        else:
            told = {"label": found.label, "index": found.index, "probability": found.probability}
            line = f"{found.label}  {100 * found.probability:.1f} %"
        typer.echo(json.dumps(told) if format == "json" else line)
        sys.stdout.flush()


@app.command()
def doctor(
    bundle: BundleFile,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The device's data, to check it too."),
    ] = None,
    profile: Profile = None,
    format: Format = "table",
) -> None:
    """Check all that a client needs, and suggest fixes.

    The exit code is 7 if it cannot take part.
    """
    from fieldtune.client.service.doctor import examine
    from fieldtune.client.service.status import print_findings

    sys.path.insert(0, str(Path.cwd()))
    print_findings(examine(bundle, data, profile), as_json=format == "json")


def _service(
    file: Path,
    data: str,
    profile: str | None,
    memory_mib: int | None,
    user: str | None,
    proxy: str | None,
    privacy: list[str],
) -> tuple[Service, Bundle]:
    """The service to install, with all inputs checked before anything is written."""
    from fieldtune.client.contract.bundle import Bundle
    from fieldtune.client.data.files import DeviceData
    from fieldtune.client.node.proxy import proxy_to_install
    from fieldtune.client.node.run import chosen_profile
    from fieldtune.client.service.systemd import (
        Service,
        memory_limit_mib,
        owner_of,
        systemd_version,
    )
    from fieldtune.profiles.host.probe import probe

    bundle, host = Bundle.read(file), probe()
    name = chosen_profile(profile, host)
    sys.path.insert(0, str(Path.cwd()))
    read = DeviceData(data, privacy)
    read()
    read.privacy()
    is_folder = Path(data).exists()
    service = Service(
        name=bundle.name,
        python=Path(sys.executable),
        data=str(Path(data).resolve()) if is_folder else data,
        profile=name,
        user=user or owner_of(data),
        memory_mib=memory_limit_mib(host, memory_mib),
        directory=None if is_folder else Path.cwd(),
        reports_power=host.reports_power,
        systemd=systemd_version(),
        privacy=tuple(privacy),
        proxy=proxy_to_install(proxy),
    )
    return service, bundle


def _log_to_stderr() -> None:
    """Log to stderr, one line per event; without a time if the systemd journal adds it."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(stamp + "%(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("fieldtune")
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
