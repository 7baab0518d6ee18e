"""``python -m fieldtune.client`` is ``fieldtune client``, with nothing else imported."""

import sys

try:
    from fieldtune.client.cli import app
    from fieldtune.profiles.common.command import run_command
except KeyboardInterrupt:  # reading the modules takes a small board seconds
    sys.exit(130)

run_command(app)
