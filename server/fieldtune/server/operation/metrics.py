"""Prometheus metrics of the devices, on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from fieldtune.profiles.common.errors import FleetError, MissingExtraError
from fieldtune.server.deployment.certificates import expires
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.settings import LOOPBACK
from fieldtune.server.federation.refusals import Refused
from fieldtune.server.operation.tables import Watched

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError:
    raise MissingExtraError("--metrics", "watch", "prometheus_client") from None

_MIB = 2.0**20
_PREFIX = "fieldtune_device_"


class Watching(Protocol):
    """Passes over the fleet."""

    connected: set[str] | None
    """Names of the devices that were connected in the last pass; None: not known."""


class _Devices(Collector):
    """Collects what is known when Prometheus asks."""

    def __init__(self, folder: CoordinatorFolder, watching: Watching) -> None:
        self._folder, self._watching = folder, watching

    def collect(self) -> Iterator[Metric]:
        watched = Watched.of(self._folder, self._watching.connected)
        yield from _of_devices(watched)
        ends = GaugeMetricFamily(
            "fieldtune_certificate_expires_timestamp_seconds", "End of the server's certificate."
        )
        ends.add_metric([], expires(self._folder.server_certificate).timestamp())
        yield ends
        info = GaugeMetricFamily(
            f"{_PREFIX}info", "Always 1; labels: versions and deployed model.",
            labels=["device", "type", "version", "flower", "runtime", "model", "sha256"],
        )  # fmt: skip
        for name, seen in watched.seen.items():
            told = seen.status
            info.add_metric(
                [name, told.profile, told.version, told.flower, told.runtime, told.model,
                 told.runs or ""], 1,
            )  # fmt: skip
        yield info


def _of_devices(watched: Watched) -> Iterator[Metric]:
    """Metrics with the device's name as their label; a device that cannot tell has none."""
    found: dict[str, tuple[str, dict[str, float | None]]] = {}

    def add(metric: str, text: str, device: str, value: float | None) -> None:
        found.setdefault(metric, (text, {}))[1][device] = value

    for name in watched.numbers:
        connected = None if watched.connected is None else float(name in watched.connected)
        add("connected", "Whether it is connected.", name, connected)
        refused = watched.refused.get(name, Refused())
        add("reports_refused", "Reports that were refused as implausible.", name, refused.count)
        add("sits_out", "Whether it gets no requests.", name, refused.sits_out)
        add("waits", "Whether a rollout waits for it.", name, name in watched.waiting)
    for name, seen in watched.seen.items():
        told, card = seen.status, watched.health.card(name)
        add("seen_timestamp_seconds", "When it last told its status.", name, seen.at)
        add("error_ratio", "Share of its labelled samples that are wrong.", name, told.error)
        add("judged_samples", "Samples counted in error_ratio.", name, told.samples)
        high = card.error_high if card else None
        drifted, outlier = watched.health.drifted(name), watched.health.outlier(name)
        add("card_error_high_ratio", "Upper end of the error on its model's card.", name, high)
        add("drifted", "Whether error_ratio is surely above the card's.", name, drifted)
        add("outlier", "Whether error_ratio is far above the others'.", name, outlier)
        add("temperature_celsius", "Temperature of the board.", name, told.temperature_c)
        throttled = None if told.throttling is None else bool(told.throttling)
        add("throttled", "Whether it is throttled now.", name, throttled)
        add("memory_free_bytes", "Free memory of the system.", name, _bytes(told.memory_free_mib))
        add("disk_free_bytes", "Free disk space for models.", name, _bytes(told.disk_free_mib))
        add("messages_answered", "Messages since the client started.", name, told.answered)
        add("messages_failed", "Failures among messages_answered.", name, told.refused)
    for name, of_study in (watched.study.seen if watched.study else {}).items():
        if name in watched.numbers:
            norm = of_study.update_norm
            add("update_norm_ratio", "Norm of its updates, of the median.", name, norm)
    for metric, (text, values) in found.items():
        family = GaugeMetricFamily(f"{_PREFIX}{metric}", text, labels=["device"])
        for device, value in values.items():
            if value is not None:
                family.add_metric([device], float(value))
        yield family


def _bytes(mib: float | None) -> float | None:
    return None if mib is None else mib * _MIB


def serve_metrics(folder: CoordinatorFolder, watching: Watching, port: int) -> str:
    """Serve ``/metrics`` to this machine in the background; the address.

    Raises:
        FleetError: the port is not free.
    """
    registry = CollectorRegistry()
    registry.register(_Devices(folder, watching))
    try:
        server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as failed:
        raise FleetError(f"port {port} cannot be used: {failed.strerror}; give another") from None
    server.set_app(_to_this_machine(server.get_app()))
    return f"http://127.0.0.1:{server.server_port}/metrics"


def _to_this_machine(app: Any) -> Any:
    """A WSGI application that refuses a site whose name was made to resolve to this machine."""

    def checked(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("HTTP_HOST", "").partition(":")[0] in LOOPBACK:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"these metrics are for this machine only\n"]

    return checked
