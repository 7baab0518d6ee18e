"""A process that is killed while it stores something, or between two steps."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, event

_STEPS = ((os, "open"), (os, "fchmod"), (os, "fsync"), (Path, "replace"), (Path, "unlink"))


def kill_this_process() -> None:
    """End at once, as by the kernel: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(run: Callable[[], object]) -> int:
    """Run something in a fork of this process; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def survives_kill(steps: int, run: Callable[[], object]) -> bool:
    """Run something in a child process that is killed before a step on the disk.

    Args:
        steps: so many are done before: opening, setting the mode, syncing, renaming, removing.
        run: what is done.

    Returns:
        Whether it was done before so many steps.
    """

    def counted() -> None:
        left = steps

        def step(real: Callable[..., object]) -> Callable[..., object]:
            def taken(*arguments: object, **options: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    kill_this_process()
                return real(*arguments, **options)

            return taken

        for owner, name in _STEPS:
            setattr(owner, name, step(getattr(owner, name)))
        run()

    code = in_child(counted)
    assert code in (0, -signal.SIGKILL), code
    return code == 0


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
