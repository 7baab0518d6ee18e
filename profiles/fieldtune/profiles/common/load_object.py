"""``package.module:name`` in a setting: the object, or one sentence that says why there is none."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from fieldtune.profiles.common.errors import FieldtuneError, did_you_mean


def load_object(
    name: str,
    *,
    setting: str,
    error: type[FieldtuneError],
    quotes: bool = True,
    import_module: Callable[[str], Any] = importlib.import_module,
) -> Any:
    """The object that ``package.module:name`` names; its module is imported.

    Args:
        name: the name may have dots: ``module:Class.method``.
        setting: what the sentence calls the name, such as ``task.data``.
        error: the kind of error that is raised.
        quotes: whether the sentence may repeat the text of what the module raised. False where
            that text may hold a sample of a device's data.
        import_module: imports the module of this name.

    Raises:
        error: the name is not of this form, there is no such module, the module cannot be
            imported, or has no such name.
    """
    cannot = f"{setting} = {name!r} cannot be imported"
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        raise error(f"{cannot}: give it as 'package.module:name'")
    try:
        # Apart from what resolves the name: an AttributeError in there is about the name alone.
        import_module(module)
    except (Exception, SystemExit) as raised:  # a user's module may raise anything
        raise error(f"{cannot}: {_why(module, raised, quotes)}") from raised
    try:
        return pkgutil.resolve_name(name)
    except AttributeError:
        public = [each for each in vars(sys.modules[module]) if not each.startswith("_")]
        hint = did_you_mean(attribute, public)
        raise error(f"{cannot}: module {module!r} has no {attribute!r}{hint}") from None


def _why(module: str, raised: BaseException, quotes: bool) -> str:
    """Why a module could not be imported, and the remedy."""
    match raised:
        case ModuleNotFoundError(name=str(missing)):
            if module == missing or module.startswith(f"{missing}."):
                return (
                    f"there is no module {missing!r}: put it beside the study file or into the "
                    "working directory, or install it"
                )
            return f"module {module!r} imports {missing!r}, which is not installed"
        case SyntaxError():
            said = f": {raised.msg}" if quotes else ""
            return f"syntax error in {raised.filename}, line {raised.lineno}{said}"
        case _:
            said = f": {raised}" if quotes else "; import it in Python to see where"
            return f"importing it raised {type(raised).__name__}{said}"


@contextmanager
def searching(folders: Sequence[str]) -> Iterator[None]:
    """Look for modules in these folders first, in this order, while inside."""
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            with suppress(ValueError):  # a module that was imported may have taken it out
                sys.path.remove(folder)
