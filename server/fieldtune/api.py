"""The Python interface of a run: ``import fieldtune.api as ft; ft.load("runs/digits")``.

A module of its own, as the package ``fieldtune`` is spread over several folders and has none.
"""

from fieldtune.server.report.run import Run, load

__all__ = ["Run", "load"]
