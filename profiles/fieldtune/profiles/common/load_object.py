"""Import the object that a setting names as ``package.module:name``, or explain why not."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from fieldtune.profiles.common.errors import FieldtuneError, did_you_mean

_SHOWN = 8
"""Names of a module that a message lists."""


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
        setting: the setting's name in error messages, such as ``task.data``.
        error: the exception class to raise.
        quotes: whether the message may include the text of the module's own exception. False if
            that text may contain a sample of a device's data.
        import_module: the function that imports a module by its name.

    Raises:
        error: the name is not of this form, there is no such module, the module cannot be
            imported, or has no such name.
    """
    cannot = f"{setting} = {name!r} cannot be imported"
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        raise error(f"{cannot}: give it as 'package.module:name'")
    try:
        # Imported separately: an AttributeError of resolve_name below can only concern the name.
        import_module(module)
    except (Exception, SystemExit) as raised:  # a user's module may raise anything
        raise error(f"{cannot}: {_why(module, raised, quotes)}") from raised
    try:
        return pkgutil.resolve_name(name)
    except AttributeError:
        public = {n: each for n, each in vars(sys.modules[module]).items() if n[:1] != "_"}
        own = [n for n, each in public.items() if getattr(each, "__module__", None) == module]
        has = f"; it has {', '.join(own[:_SHOWN])}{'...' if len(own) > _SHOWN else ''}"
        raise error(
            f"{cannot}: module {module!r} has no {attribute!r}{did_you_mean(attribute, public)}"
            + (has if own else "")
        ) from None


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
    """Put these folders first on ``sys.path``, in this order, for the duration of the block."""
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            with suppress(ValueError):  # an imported module may have removed it
                sys.path.remove(folder)
