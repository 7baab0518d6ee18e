"""Imports that take less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Imports in the block find these packages missing, unless they are imported already.

    For packages that others import if they are there, for what is not used here.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: it is not found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def uncollected() -> Iterator[None]:
    """Modules that are imported in the block live as long as the process.

    So the garbage collector need not look at their objects, neither now, which is a tenth of the
    time of an import, nor later.
    """
    enabled, imported = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > imported:
            gc.freeze()
        if enabled:
            gc.enable()
