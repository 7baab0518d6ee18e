"""``python -m fieldtune.simulations`` is the command ``fieldtune``."""

from fieldtune.simulations.cli import main

main()
