"""fieldtune: tunes a model for the devices that will train it and run it.

The only module of the package itself; its four parts lie in folders of their own.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(__path__, __name__)

if TYPE_CHECKING:
    from fieldtune.server.report.run import Run as Run
    from fieldtune.server.report.run import load as load


def __getattr__(name: str) -> Any:
    """``load`` and ``Run``, imported when they are first used."""
    if name in ("load", "Run"):
        from fieldtune.server.report import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
