"""How often the body of a ``WHILE`` runs, where the file says it.

Loops over the steps of a sequence count from a constant to a constant: the condition is ``LESS``
of a counter and a limit, or ``LOGICAL_AND`` of several, and the body adds a constant to the
counter. Nothing else is understood.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from fieldtune.profiles.costmodel.tflite_graph import Op, TfliteGraphs, indices, producers


def loop_count(graphs: TfliteGraphs, op: Op) -> int | None:
    """Runs of the body of a ``WHILE``; None where the file does not say it."""
    condition, body = (
        graphs.tree.subgraphs[index]
        for index in (op.options.condSubgraphIndex, op.options.bodySubgraphIndex)
    )
    try:
        return _Loop(graphs, op, condition, body).count(indices(condition.outputs)[0])
    except IndexError:  # graphs that have not as many tensors as the loop has
        return None


class _Loop:
    def __init__(self, graphs: TfliteGraphs, op: Op, condition: Any, body: Any) -> None:
        self._graphs, self._op, self._condition, self._body = graphs, op, condition, body
        self._made_by = producers(condition)
        self._counted: dict[int, int | None] = {}

    def count(self, tensor: int) -> int | None:
        """Runs until a tensor of the condition is false."""
        if tensor not in self._counted:
            self._counted[tensor] = None  # while it is not known
            self._counted[tensor] = self._count(tensor)
        return self._counted[tensor]

    def _count(self, tensor: int) -> int | None:
        if tensor not in self._made_by:
            return None
        test = self._graphs.op(self._condition, self._condition.operators[self._made_by[tensor]])
        if test.name == "LOGICAL_AND":
            counts = [self.count(part) for part in test.ins]
            known = [count for count in counts if count is not None]
            return min(known) if len(known) == len(counts) else None
        if test.name not in ("LESS", "GREATER"):
            return None
        counter, limit = test.ins if test.name == "LESS" else test.ins[::-1]
        start, step, end = self._first(counter), self._step(counter), self._first(limit)
        if start is None or step is None or end is None or step <= 0 or self._step(limit) != 0:
            return None
        return max(ceil((end - start) / step), 0)

    def _first(self, tensor: int) -> int | None:
        """The value of a tensor of the condition before the first run."""
        place = self._place(tensor)
        values = (
            self._graphs.tensor(self._condition, tensor).values
            if place is None
            else self._op.inputs[place].values
        )
        return values[0] if len(values) == 1 else None

    def _step(self, tensor: int) -> int | None:
        """What a run of the body adds to a tensor of the condition."""
        place = self._place(tensor)
        if place is None:
            return 0
        start, end = indices(self._body.inputs)[place], indices(self._body.outputs)[place]
        if start == end:
            return 0
        made_by = producers(self._body)
        if end not in made_by:
            return None
        add = self._graphs.op(self._body, self._body.operators[made_by[end]])
        if add.name != "ADD" or start not in add.ins:
            return None
        values = add.inputs[1 - add.ins.index(start)].values
        return values[0] if len(values) == 1 else None

    def _place(self, tensor: int) -> int | None:
        """Which variable of the loop a tensor of the condition is."""
        variables = indices(self._condition.inputs)
        return variables.index(tensor) if tensor in variables else None
