"""The digits data set of scikit-learn: 1,797 images of 8x8 pixels, 10 classes.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository 1998 (its test part). The file is read by its path: importing scikit-learn would cost
every simulated worker 100 MB.
"""

from __future__ import annotations

import numpy as np

from fieldtune.simulations.datasets.dataset import Dataset
from fieldtune.simulations.datasets.package_file import package_file


def load_digits() -> Dataset:
    """``x``: float32 ``[1797, 8, 8, 1]`` in 0..1; ``y``: int32 ``[1797]``; no natural clients.

    Raises:
        DataError: scikit-learn is not installed.
    """
    file = package_file(
        "sklearn",
        "datasets/data/digits.csv.gz",
        "The data set 'digits' comes with scikit-learn, which is not installed: "
        "pip install 'fieldtune[simulation]'",
    )
    table = np.loadtxt(file, delimiter=",")
    x = (table[:, :-1] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return Dataset(x, table[:, -1].astype(np.int32), owner=None)
