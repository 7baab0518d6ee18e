"""A process that is killed while it stores something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event


@contextmanager
def killed_before_write(number: int) -> Iterator[list[str]]:
    """Any database is written to so many times; the next write ends the block.

    What it would have written is then in the list.
    """
    left, killed = number, list[str]()

    def seen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        nonlocal left
        if statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            if not left:
                killed.append(statement)
                raise KeyboardInterrupt
            left -= 1

    event.listen(Engine, "before_cursor_execute", seen)
    try:
        yield killed
    except KeyboardInterrupt:
        if not killed:
            raise
    finally:
        event.remove(Engine, "before_cursor_execute", seen)
