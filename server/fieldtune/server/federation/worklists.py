"""Requests that clients work off at the same time, each client one after the other."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from fieldtune.server.federation.fleet import Addressed, Fleet, Reply, no_reply

_WAIT_S = 1.0


def worked_off(fleet: Fleet, requests: Iterable[Addressed]) -> Iterator[Reply]:
    """The answers to these requests, as they come in; every request is answered once.

    All clients work at the same time. Each has one request at a time, in the order given, so that
    a client has as long for each as the fleet allows, and no more than one model a client is on its
    way. Whoever does not answer a request (``no_reply``) is not asked the rest, which count as not
    answered either: a client that is away is waited for once, not once a request.

    Args:
        fleet: that answers; nothing else may be asked of it meanwhile.
        requests: for any of its clients. Those that carry the same model share its bytes.
    """
    waiting: dict[int, deque[Addressed]] = defaultdict(deque)
    for addressed in requests:
        waiting[addressed.client].append(addressed)
    following = [queue.popleft() for queue in waiting.values()]
    asked = 0
    while following or asked:
        if following:
            fleet.send(following)
        asked, following = asked + len(following), []
        for reply in fleet.receive(_WAIT_S):
            asked -= 1
            yield reply
            queue = waiting[reply.client]
            if reply.report.failure == "no_reply":
                while queue:
                    yield no_reply(queue.popleft(), reply.report.detail)
            elif queue:
                following.append(queue.popleft())
