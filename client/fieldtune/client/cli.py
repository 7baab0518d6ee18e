"""``fieldtune client``: what a device's owner types. It needs the base install alone."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

# Before Flower is imported: no telemetry, no look for updates.
for _name, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}.items():
    os.environ.setdefault(_name, _value)

app = typer.Typer(
    no_args_is_help=True,
    help="Take part in studies as a device, with a coordinator's bundle and data of its own.",
)

BundleFile = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", help="The file that the coordinator made: NAME.bundle.toml."),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="PATH", help="The device's own data: a folder, or package.module:function."
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Device profile.  [default: as the board says]"),
]


@app.command()
def run(bundle: BundleFile, data: Data, profile: Profile = None) -> None:
    """Serve the coordinator in the foreground until Ctrl-C."""
    from fieldtune.client.run import run_client

    _log_to_stderr()
    run_client(bundle, data, profile=profile)


def _log_to_stderr() -> None:
    """A line an event; the journal of a service adds the time itself."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(stamp + "%(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("fieldtune")
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
