"""How many random models compile, match TensorFlow, and are the same in both TFLite runtimes.

usage: python tests/server/compiler/fuzz.py --models 300 --seed 0

The artefacts' gate compares with TensorFlow in the installed runtime; what passes is run again in
tflite-runtime, in an environment made for it (Python 3.11 at most). Prints the failures with what
made them, then the counts; exits 1 where there is any failure.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.compiler.service import CompileService

sys.path.insert(0, str(Path(__file__).parent))
from strategies import drawn
from two_runtimes import disagreements, other_environment


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    specs = {str(n): drawn(arguments.seed * 1_000_000 + n) for n in range(arguments.models)}
    artefacts: dict[str, Artefact] = {}
    failures = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with CompileService(
            ArtefactCache(folder / "cache"), [str(Path(__file__).parent)], folder / "log"
        ) as service:
            for number, spec in specs.items():
                try:
                    artefacts[number] = service.submit(spec).result()
                except CompileError as failed:
                    failures += 1
                    say(f"FAILED {number}: {spec.to_json()}\n   {failed}")
        seconds = time.monotonic() - started
        say(f"{len(artefacts)} of {len(specs)} models compile and match ({seconds:.0f} s)")
        if sys.version_info >= (3, 12):
            say("NOT CHECKED in tflite-runtime 2.14, which has wheels for Python 3.11 at most")
        else:
            differing = disagreements(artefacts, other_environment(folder / "other"), folder)
            failures += len(differing)
            for number, error in differing.items():
                say(f"DIFFERS {number} by {error:.1e}: {specs[number].to_json()}")
            agreed = len(artefacts) - len(differing)
            say(f"{agreed} of {len(artefacts)} are the same in both runtimes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
