"""Keeping gRPC, which Flower imports but a device never uses, out of the device's process.

Flower imports gRPC for programs that a device does not run; the Fleet API uses HTTP since 1.41. The
gRPC library takes 10 MB, a tenth of the process's memory. :func:`without_grpc` replaces it with a
stub before Flower is first imported; calling anything in the stub raises RuntimeError.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _StubClass(type):
    """Replaces a class of gRPC: can be subclassed, but not instantiated."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stub(name)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("gRPC is left out of a device's process")


def _stub(name: str) -> _StubClass:
    return _StubClass(name, (), {})


class _StubModule(ModuleType):
    """Replaces a module of gRPC; every attribute is a stub class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__version__ = "none"

    @staticmethod
    def first_version_is_lower(*_: str) -> bool:
        """Version check of Flower's generated code."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stub(name)


class _StubFinder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ("grpc", "grpc_health"):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to execute."""


def without_grpc() -> None:
    """Replace gRPC with a stub in this process, unless it is already imported."""
    if "grpc" not in sys.modules:
        sys.meta_path.insert(0, _StubFinder())
