"""How many random models compile and match TensorFlow: the artefacts' gate decides.

usage: python tests/server/compiler/fuzz.py --models 300 --seed 0

Prints the failures with what made them, then the count; exits 1 where there is any.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from fieldtune.profiles.errors import CompileError
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService

sys.path.insert(0, str(Path(__file__).parent))
from strategies import drawn


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failures = 0
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        CompileService(
            ArtefactCache(folder), [str(Path(__file__).parent)], Path(folder, "log")
        ) as service,
    ):
        for number in range(arguments.models):
            spec = drawn(arguments.seed * 1_000_000 + number)
            try:
                service.submit(spec).result()
            except CompileError as failed:
                failures += 1
                say(f"FAILED {number}: {spec.to_json()}\n   {failed}")
    seconds = time.monotonic() - started
    matched = arguments.models - failures
    say(f"{matched} of {arguments.models} models compile and match ({seconds:.0f} s)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
