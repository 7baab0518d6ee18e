"""``python -m fieldtune.client`` is ``fieldtune client``, with nothing else imported."""

from fieldtune.client.cli import app
from fieldtune.profiles.command import run_command

run_command(app)
