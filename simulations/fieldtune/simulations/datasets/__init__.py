"""Data sets for simulations, each behind one loader.

A loader returns a :class:`Dataset`. Nothing is downloaded: a built-in set comes with a package,
and where that is missing the error says what to install.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """Samples before they are dealt out.

    Args:
        x: float32 ``[n, ...]``.
        y: int32 ``[n]``, ``0..classes - 1``.
        owner: ``[n]``, the natural client of each sample, or None.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int32]
    owner: NDArray[Any] | None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1


def load_dataset(name: str) -> Dataset:
    """A built-in data set, or what ``package.module:function`` returns.

    Raises:
        DataError: the name is unknown, the package missing, or the arrays do not fit together.
    """
    from fieldtune.simulations.datasets.digits import load_digits

    builtin: dict[str, Callable[[], Dataset]] = {"digits": load_digits}
    if name in builtin:
        return builtin[name]()
    if ":" not in name:
        raise DataError(
            f"task.data = {name!r} is not known: give one of {', '.join(builtin)}, or "
            "'package.module:function'"
        )
    return _checked(name, _call(name))


def _call(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as missing:
        raise DataError(f"task.data = {name!r} cannot be imported: {missing}") from None
    try:
        return function()
    except DataError:
        raise
    except Exception as failed:  # a user's function may raise anything
        raise DataError(
            f"task.data = {name!r} raised {type(failed).__name__}: {failed}"
        ) from failed


def _checked(name: str, returned: Any) -> Dataset:
    if not isinstance(returned, tuple) or len(returned) != 3:
        raise DataError(f"task.data = {name!r} must return (x, y, owner), owner may be None")
    x, y, owner = np.asarray(returned[0], np.float32), np.asarray(returned[1]), returned[2]
    if y.ndim != 1 or len(x) != len(y) or (owner is not None and len(owner) != len(y)):
        raise DataError(
            f"task.data = {name!r} returned x {x.shape}, y {y.shape}"
            f"{'' if owner is None else f', owner of {len(owner)}'}: one entry a sample is needed"
        )
    if len(y) == 0 or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise DataError(f"task.data = {name!r} must return labels 0..classes - 1 as integers")
    return Dataset(x, y.astype(np.int32), None if owner is None else np.asarray(owner))
