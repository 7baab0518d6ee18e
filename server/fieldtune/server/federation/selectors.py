"""The study's way of selecting clients, and waiting until one can be asked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator

from fieldtune.server.federation.exchange import Answers, Collect, Exchange
from fieldtune.server.federation.oort import Oort
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.selection import Selector, Tiers, Uniform
from fieldtune.server.federation.tally import NothingLearnedError


def selector_of(plan: Plan) -> Selector:
    """The selector of a plan's ``server.selection``."""
    match plan.server.selection:
        case "uniform":
            return Uniform(plan)
        case "available":
            return Uniform(plan, only_there=True)
        case "tiers":
            return Tiers(plan)
        case "oort":
            return Oort(plan)


def someone(
    plan: Plan, selector: Selector, number: int, count: int
) -> Generator[Exchange, Answers, list[int]]:
    """The clients that a round asks; waits until one of them can be asked.

    Empty where none can before the training's time is over.

    Raises:
        NothingLearnedError: no client will ever be there.
    """
    while True:
        if chosen := selector.choose(number, 0, count):
            return chosen
        there_s = plan.situation.someone_there_s(plan.participants)
        if math.isinf(there_s):
            never = Counter({"no_reply": len(plan.participants)})
            raise NothingLearnedError(never, (), detail="none of them is ever there")
        if not plan.has_time:
            return []
        yield Collect({}, until_s=min(there_s, plan.most_s))
