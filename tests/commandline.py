"""The command line as the tests run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "fieldtune.simulations")
Command = Callable[..., subprocess.CompletedProcess[str]]
