"""Sample data for simulated devices: ``python write_samples.py FOLDER NAME...``.

Writes ``FOLDER/NAME/samples.npz`` for each name, with an equal part of scikit-learn's digits, and
``FOLDER/names.txt`` for ``fieldtune coordinator enroll --file``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def main(folder: Path, names: list[str]) -> None:
    """Write the files."""
    digits = load_digits()
    x = (digits.images / 16.0).astype(np.float32)
    for number, name in enumerate(names):
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        part = slice(number, None, len(names))
        np.savez(own / "samples.npz", x=x[part], y=digits.target[part])
        (own / "data.toml").write_text("classes = 10\n")
    (folder / "names.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
