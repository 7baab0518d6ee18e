"""The connection to SuperLink's Runtime API: a run is claimed, and calls outlast an outage."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment.flower_private import (
    AcquireTaskRequest,
    RetryInvoker,
    RuntimeHttpClient,
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
    TaskType,
    exponential,
)
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.superlink_control import start_hint, start_run
from fieldtune.server.devices.reply_limits import check_size

GIVE_UP_S = 900.0
"""How long a study waits for SuperLink."""
_UNREPORTED_S = 2.0
"""Shorter interruptions are not reported: idle connections are often closed and reopened."""
_TEMPORARY = (500, 502, 503, 504)
"""HTTP statuses of a busy or restarting SuperLink; 500 when its database is locked for 5 s."""


class Reconnecting:
    """Retries calls while SuperLink is unreachable, ``patience_s`` at most, and reports that."""

    def __init__(
        self,
        folder: CoordinatorFolder,
        notes: Callable[[str], None],
        waiting: Callable[[str], None],
        patience_s: float = GIVE_UP_S,
    ) -> None:
        self._folder, self._notes, self._waiting = folder, notes, waiting
        self._most_s = patience_s
        self._since: float | None = None
        self._said = False
        self.outages = 0
        self.invoker = RetryInvoker(
            wait_gen_factory=lambda: exponential(0.5, max_delay=5),
            recoverable_exceptions=(httpx.TransportError, httpx.HTTPStatusError),
            max_tries=None,
            max_time=None,
            should_giveup=is_final,
            on_success=lambda _: self._is_back(),
            on_backoff=lambda _: self._is_away(),
        )

    def give_up(self) -> None:
        """From now on, calls fail without retries."""
        self._most_s, self._said = 0.0, True

    def _is_away(self) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        away_s = now - self._since
        if away_s >= _UNREPORTED_S and not self._said:
            self._said = True
            self._notes(f"SuperLink does not answer: waiting for it ({start_hint(self._folder)})")
        elif self._said and away_s < self._most_s:
            self._waiting(f"waiting for SuperLink ({self._most_s - away_s:.0f} s more at most)")
        if away_s >= self._most_s:
            if self._most_s < GIVE_UP_S:  # by who asks again and again
                raise FleetError(f"SuperLink does not answer: {start_hint(self._folder)}")
            raise FleetError(
                f"SuperLink has not answered for {away_s / 60:.0f} minutes: "
                f"{start_hint(self._folder)} Once it is, run the same command to resume"
            )

    def _is_back(self) -> None:
        if self._said and self._since is not None:
            self.outages += 1
            self._waiting("")
            self._notes(f"SuperLink is back after {time.monotonic() - self._since:.0f} s")
        self._since, self._said = None, False


def claimed_run(folder: CoordinatorFolder) -> str:
    """Start a run and claim it for this process; its token."""
    run_id = start_run(folder)
    client = runtime_client(
        folder,
        SuperExecAuthHttpInterceptor(
            master_secret=folder.executor_key,
            protected_methods={"/flwr.proto.Runtime/AcquireTask"},
        ),
    )
    try:
        claimed = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
    finally:
        client.close()
    if not claimed.token or claimed.task.run_id != run_id:
        raise FleetError(
            "SuperLink assigned the run to another process: a 'flower-superexec' is running; "
            "stop it and try again"
        )
    return str(claimed.token)


def runtime_client(
    folder: CoordinatorFolder,
    interceptor: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor,
    invoker: RetryInvoker | None = None,
) -> RuntimeHttpClient:
    """A client of the Runtime API that proves by its interceptor who it is."""
    client = RuntimeHttpClient.from_server_address(
        server_address=folder.settings.superlink_address,
        insecure=False,
        root_certificates=folder.ca_certificate.encode(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), interceptor],
        retry_invoker=invoker,
    )
    client._client.event_hooks = {"response": [check_size]}
    return client


def is_final(error: Exception) -> bool:
    """Whether a call that failed so will fail again: SuperLink has refused it."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _TEMPORARY
