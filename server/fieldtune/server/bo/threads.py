"""One thread for small matrices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one thread: on small matrices more cost more than they bring.

    And the last bits of a result do not depend on how many cores a machine has. Without
    threadpoolctl, which the sampler does not need otherwise, nothing is changed.
    """
    libraries = _libraries()
    if libraries is None:
        return nullcontext()
    limited: AbstractContextManager[object] = libraries.limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
