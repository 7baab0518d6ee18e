"""Reading TOML, and writing it (which the standard library does not).

The server writes a run's copy of the study file with ``tomlkit``, which keeps the user's comments.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w

_TOO_DEEP = re.compile(r"""(?:\.\s*+[\w"'-]{1,256}\s*+){100}""")
"""Dotted keys take memory with the square of their parts."""


def from_toml(text: str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
        tomllib.TOMLDecodeError: it is not TOML, or nests lists or tables too deeply.
    """
    too_deep = tomllib.TOMLDecodeError("it nests lists or tables too deeply: flatten them")
    if _TOO_DEEP.search(text):
        raise too_deep
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise too_deep from None
    except ValueError as wrong:  # such as a whole number of thousands of digits
        if isinstance(wrong, tomllib.TOMLDecodeError):
            raise
        raise tomllib.TOMLDecodeError(str(wrong)) from None


def to_toml(values: Mapping[str, Any], *, comment: str = "") -> str:
    r"""The text of a TOML file.

    Args:
        values: mappings become tables; None cannot be represented in TOML.
        comment: one line for the top of the file, without ``#``.

    A string of several lines is written as a multi-line string with ``\n`` line ends.
    """
    head = f"# {comment}\n" if comment else ""
    return head + tomli_w.dumps(values, multiline_strings=True)
