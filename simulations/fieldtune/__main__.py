"""The command ``fieldtune`` as ``python -m fieldtune``."""

from fieldtune.simulations.__main__ import main

if __name__ == "__main__":
    main()
