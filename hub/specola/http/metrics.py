"""What the API service measures.

Names are `specola_<what>_<unit>`; every label value is known and created before the first request,
so that a rate over a quiet counter is 0 and not absent. No label ever holds a name of a person.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from specola.http.route import Text

CLASSES = ("2xx", "4xx", "5xx")
REASONS = (
    "bad_input",
    "unauthenticated",
    "xsrf",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "conflict",
    "too_large",
    "too_much",
    "hub",
    "hub_refused",
    "hub_conflict",
    "gateway",
    "no_site",
    "site",
    "too_many_clusters",
    "too_many_workers",
    "never_served",
    "too_many_requests",
    "stale_token",
    "lease_ended",
    "spawn",
    "spawn_refused",
    "unavailable",
    "internal",
    "other",
)
STOPS = ("asked", "idle", "age")
STARTS = ("started", "failed", "refused")
UNKNOWN = "none"


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "specola_http_requests", "Requests answered", ("route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "specola_http_request_seconds",
            "Time to answer, streams left out",
            ("route",),
            buckets=(0.005, 0.02, 0.05, 0.1, 0.3, 1, 3, 10),
            registry=self.registry,
        )
        self._errors = Counter("specola_http_errors", "Requests refused or failed", ("reason",), registry=self.registry)
        self.streams = Gauge("specola_http_streams", "Event streams that are open", registry=self.registry)
        self._starts = Counter("specola_server_starts", "User servers asked for", ("outcome",), registry=self.registry)
        self._stops = Counter("specola_server_stops", "User servers stopped by us", ("why",), registry=self.registry)
        self.servers = Gauge("specola_servers_running", "User servers that run", registry=self.registry)
        self._routes: set[str] = set()
        self.know((UNKNOWN,))
        for counter, values in ((self._errors, REASONS), (self._starts, STARTS), (self._stops, STOPS)):
            for value in values:
                counter.labels(value)

    def know(self, routes: Iterable[str]) -> None:
        """Create the counters of routes, before the first request."""
        for name in routes:
            self._routes.add(name)
            self._seconds.labels(name)
            for status in CLASSES:
                self._requests.labels(name, status)

    def answered(self, route: str, status: int, seconds: float | None) -> None:
        """Count a request; `seconds` is None for a stream."""
        name = route if route in self._routes else UNKNOWN
        kind = f"{min(max(status // 100, 2), 5)}xx"
        self._requests.labels(name, kind if kind in CLASSES else "2xx").inc()
        if seconds is not None:
            self._seconds.labels(name).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count an error by its reason."""
        self._errors.labels(reason if reason in REASONS else "other").inc()

    def started(self, outcome: str) -> None:
        """Count a server that was asked for."""
        self._starts.labels(outcome).inc()

    def stopped(self, why: str) -> None:
        """Count a server that we stopped."""
        self._stops.labels(why).inc()

    def text(self) -> Text:
        """Everything in Prometheus' format."""
        return Text(generate_latest(self.registry).decode(), CONTENT_TYPE_LATEST)
