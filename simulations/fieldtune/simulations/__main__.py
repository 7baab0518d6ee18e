"""The command ``fieldtune``, also as ``python -m fieldtune.simulations``.

Importing all packages takes a second or more; Ctrl-C is handled already during the imports.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from fieldtune.simulations.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
