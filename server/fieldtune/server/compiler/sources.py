"""The source files of a user's module, found without importing anything."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fieldtune.profiles.common.errors import CompileError, UsageError, did_you_mean

_SHOWN = 8
"""Names of a module that a message lists."""
_ANY_NAME = {"*", "__getattr__", "globals", "setattr", "exec"}
"""Where a module has or uses one of these, its names are known only once it is imported."""


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


def is_there(name: str, path: Sequence[str]) -> bool:
    """Whether the module of ``module:name`` is in one of these folders."""
    return _find(name.partition(":")[0], path) is not None


def check_defines(name: str, setting: str, path: Sequence[str]) -> None:
    """Refuse ``module:name`` where the module's source shows that it is wrong; nothing is imported.

    Args:
        name: as the study file has it.
        setting: its key, for messages.
        path: folders in which the module may be.

    Raises:
        UsageError: there is no such module, it has a syntax error, or it has no such name.
    """
    module, _, attribute = name.partition(":")
    file, cannot = _find(module, path), f"{setting} = {name!r} cannot be imported"
    if file is None:
        if module.partition(".")[0] in (*sys.builtin_module_names, *sys.modules):
            return
        raise UsageError(
            f"{cannot}: there is no module {module!r}: put it beside the study file, or install it"
        )
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as wrong:
        raise UsageError(
            f"{cannot}: syntax error in {file}, line {wrong.lineno}: {wrong.msg}"
        ) from None
    except (OSError, ValueError, RecursionError):
        return  # importing it will say so
    defined = set(_defined(tree.body))
    wanted = attribute.partition(".")[0]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if wanted not in defined and not (defined | used) & _ANY_NAME:
        own = [
            each.name
            for each in tree.body
            if isinstance(each, (ast.FunctionDef, ast.ClassDef)) and not each.name.startswith("_")
        ]
        has = f"; it has {', '.join(own[:_SHOWN])}" + ("..." if len(own) > _SHOWN else "")
        raise UsageError(
            f"{cannot}: module {module!r} has no {wanted!r}{did_you_mean(wanted, defined)}"
            + (has if own else "")
        )


def _defined(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that statements of a module define, ``*`` for those of a star import."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (each.asname or each.name.partition(".")[0] for each in names)
            case ast.Assign(targets=targets):
                for target in targets:
                    yield from (e.id for e in ast.walk(target) if isinstance(e, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                for part in ("body", "orelse", "finalbody"):
                    yield from _defined(getattr(statement, part, []))
                for handler in getattr(statement, "handlers", []):
                    yield from _defined(handler.body)
            case _:
                continue


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
