"""Give every decoder of outside bytes mutated inputs: ``make fuzz`` tries a million.

What raises anything that is not documented is written to ``--keep``, and named.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from support.decoders import decoders, mutated


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", help="the name of one decoder")
    options.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    shm = Path("/dev/shm")
    uncaught: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        known = {
            name: decoder
            for name, decoder in decoders(Path(folder)).items()
            if given.only in (None, name)
        }
        rng, began, names = np.random.default_rng(given.seed), time.monotonic(), sorted(known)
        for number in range(given.inputs):
            name = names[number % len(names)]
            data = mutated(known[name].seed, rng)
            try:
                known[name].survives(data)
            except Exception as bug:
                uncaught[name] += 1
                if uncaught[name] <= 3:
                    given.keep.mkdir(exist_ok=True)
                    (given.keep / f"{name.replace(' ', '-')}-{number}").write_bytes(data)
                    where = traceback.extract_tb(bug.__traceback__)[-1]
                    print(f"{name}: {type(bug).__name__}: {str(bug)[:200]} in {where.name}")
            if (number + 1) % 100_000 == 0:
                print(f"{number + 1} inputs, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{given.inputs} inputs, {uncaught.total()} uncaught {dict(uncaught)}")
    return bool(uncaught)


if __name__ == "__main__":
    sys.exit(main())
