"""Modules that proposals need, and that take long to import."""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Thread

_MODULE = "scipy.stats"
"""It imports ``scipy.optimize`` too."""


def preload() -> None:
    """Import them in the background: what comes before the first proposal mostly waits."""
    if _MODULE not in sys.modules:
        Thread(target=import_module, args=(_MODULE,)).start()
