"""Commands that print no notices of the TFLite runtime."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_notices() -> Iterator[None]:
    """Leave out what the runtime's native code prints on stderr as ``INFO``.

    It has no setting for that. All else that is printed meanwhile appears at the end. Nothing is
    left out where stderr is closed or there is no folder for temporary files.
    """
    try:
        printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        kept = os.dup(2)
    except OSError:
        yield
        return
    _flush()
    with printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, 2)
            os.close(kept)
            printed.seek(0)
            for line in printed:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)


def _flush() -> None:
    if sys.stderr is not None:  # as it is where it was closed when Python started
        sys.stderr.flush()
