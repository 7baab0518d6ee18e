"""Run many requests: clients in parallel, the requests of one client one after the other."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from fieldtune.server.federation.fleet import Addressed, Fleet, Reply, no_reply

_WAIT_S = 1.0


def worked_off(fleet: Fleet, requests: Iterable[Addressed]) -> Iterator[Reply]:
    """Replies to these requests as they come in, one for each.

    All clients work in parallel. Each gets one request at a time, in the given order, so the
    fleet's timeout applies to each request, and at most one model per client is being transferred.
    Once a client does not answer (``no_reply``), its remaining requests count as not answered too:
    a disconnected client is waited for once, not once per request.

    Args:
        fleet: of the clients; it must have no other requests meanwhile.
        requests: for any of its clients. Those with the same model share its bytes.
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
