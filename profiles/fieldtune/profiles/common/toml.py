"""Writing TOML (the standard library only reads it).

The server writes a run's copy of the study file with ``tomlkit``, which keeps the user's comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w


def to_toml(values: Mapping[str, Any], *, comment: str = "") -> str:
    r"""The text of a TOML file.

    Args:
        values: mappings become tables; None cannot be represented in TOML.
        comment: one line for the top of the file, without ``#``.

    A string of several lines is written as a multi-line string with ``\n`` line ends.
    """
    head = f"# {comment}\n" if comment else ""
    return head + tomli_w.dumps(values, multiline_strings=True)
