"""``python -m fieldtune.client``: same as ``fieldtune client``, but imports nothing else."""

import sys

try:
    from fieldtune.client.cli import app
    from fieldtune.profiles.common.command import run_command
except KeyboardInterrupt:  # importing takes seconds on a small board
    sys.exit(130)

run_command(app)
