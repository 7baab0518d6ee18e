"""The source files of a user's module, found without importing anything."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fieldtune.profiles.common.errors import CompileError


def module_file(module: str, path: Sequence[str]) -> Path:
    """The source file of a module.

    Raises:
        CompileError: there is no such module.
    """
    found = _find(module, path)
    if found is None:
        raise CompileError(
            f"module {module!r} is not found: put it beside the study file or install it"
        )
    return found


def source_hashes(module: str, own: Sequence[str], path: Sequence[str]) -> dict[str, str]:
    """SHA-256 of a module's source and of what it imports from the user's own folders.

    Args:
        module: the module.
        own: the user's folders, searched first; only modules in these are followed.
        path: further folders, in which the module itself may be.

    Returns:
        name of the module -> SHA-256 in hexadecimal.

    Raises:
        CompileError: there is no such module.
    """
    found: dict[str, str] = {}
    waiting = {module: module_file(module, [*own, *path])}
    while waiting:
        name, file = waiting.popitem()
        source = file.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        for imported in _imports(source, name, is_package=file.name == "__init__.py"):
            if imported not in found and (beside := _find(imported, own)) is not None:
                waiting[imported] = beside
    return dict(sorted(found.items()))


def _find(module: str, path: Sequence[str]) -> Path | None:
    found: ModuleSpec | None = None
    search: Sequence[str] | None = path
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = PathFinder.find_spec(name, search) if search is not None else None
        if found is None:
            return None
        search = found.submodule_search_locations
    file = Path(found.origin) if found and found.origin else None
    return file if file and file.is_file() else None  # built-in modules have no file


def _imports(source: bytes, module: str, *, is_package: bool) -> Iterator[str]:
    """The modules that a source imports, with those that may be meant by ``from x import y``."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return  # importing it will say so
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(filter(None, [*(above if node.level else []), node.module or ""]))
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))
