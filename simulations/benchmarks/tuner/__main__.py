"""``python simulations/benchmarks/tuner``."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a folder, Python puts the folder itself on the path; the package is its parent's.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from tuner.cli import main  # noqa: E402  # the path comes first

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
