"""Leaving out of a device's process what Flower imports and a device never uses.

Flower imports gRPC for programs that a device does not run; the Fleet API is plain HTTP since 1.41.
gRPC's library takes 10 MB of the process, a tenth of all it has. :func:`without_grpc` puts an empty
module in its place before Flower is first imported; using anything of it raises.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Absent(type):
    """Stands where a class of gRPC would: it can be inherited from and named, not made."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent(name)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("gRPC is left out of a device's process")


def _absent(name: str) -> _Absent:
    return _Absent(name, (), {})


class _Module(ModuleType):
    """A module of gRPC with nothing in it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__version__ = "none"

    @staticmethod
    def first_version_is_lower(*_: str) -> bool:
        """What Flower's generated code asks before it is content."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent(name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ("grpc", "grpc_health"):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def without_grpc() -> None:
    """Keep gRPC out of this process, unless it is there already."""
    if "grpc" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
