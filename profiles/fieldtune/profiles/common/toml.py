"""Writing TOML; the standard library reads it (``tomllib``).

The server's frozen study file is written by ``tomlkit``, since it keeps the user's comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w


def to_toml(values: Mapping[str, Any], *, comment: str = "") -> str:
    r"""The text of a TOML file.

    Args:
        values: tables are mappings; None has no form in TOML.
        comment: one line to put in front.

    A text of several lines is written as such, with ``\n`` as the end of each.
    """
    head = f"# {comment}\n" if comment else ""
    return head + tomli_w.dumps(values, multiline_strings=True)
