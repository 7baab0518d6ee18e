"""Built-in models: each a function of its knobs, ``input_shape`` and ``classes``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fieldtune.server.compiler.models.basic import cnn, mlp

BUILTIN: dict[str, Callable[..., Any]] = {"mlp": mlp, "cnn": cnn}
