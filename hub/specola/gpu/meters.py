"""What GPU sharing measures for Prometheus; every label value is known from the facility file."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from specola.gpu.pools import GpuPool
from specola.gpu.room import scattered
from specola.gpu.situation import Snapshot
from specola.gpu.store import LIVE, Held

WAITS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
OUTCOMES = ("released", "reclaimed", "expired", "drained", "lapsed", "failed", "cancelled")
POOL = ("pool", "simulated")
"""the labels of everything here; `simulated` is `true` where the GPUs are invented"""


class Meters:
    """Gauges and counters of all pools, in the registry of the service."""

    def __init__(self, registry: CollectorRegistry, pools: Iterable[GpuPool]) -> None:
        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"specola_gpu_{name}", text, (*POOL, *more), registry=registry)

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"specola_gpu_{name}", text, (*POOL, *more), registry=registry)

        self._queue = gauge("queue_length", "Requests that wait, by the pool that they would like best")
        self._leases = gauge("leases", "Leases that have not ended", "state")
        self._fragmentation = gauge(
            "fragmentation", "Share of a shape that scattered room costs: 0 none, 1 all of it", "shape"
        )
        self._waits = Histogram(
            "specola_gpu_wait_seconds", "From request to grant", POOL, buckets=WAITS, registry=registry
        )
        self._granted = counter("granted_slot_seconds", "Eighths of a GPU on lease, times seconds")
        self._busy = counter("busy_slot_seconds", "Eighths of a GPU on lease and not idle, times seconds")
        self._reclaims = counter("reclaims", "Idle leases taken back because somebody waited")
        self._ended = counter("leases_ended", "Leases that ended", "outcome")
        self._labels = {pool.name: (pool.name, str(pool.simulated).lower()) for pool in pools}
        for pool in pools:
            self._know(pool)

    def _know(self, pool: GpuPool) -> None:
        labels = self._labels[pool.name]
        for metric in (self._queue, self._waits, self._granted, self._busy, self._reclaims):
            metric.labels(*labels)
        for state in LIVE:
            self._leases.labels(*labels, state)
        for outcome in OUTCOMES:
            self._ended.labels(*labels, outcome)
        for shape in pool.model.geometry.shapes:
            self._fragmentation.labels(*labels, shape)

    def granted(self, pool: str, waited: float) -> None:
        """A request got its slice after so many seconds."""
        self._waits.labels(*self._labels[pool]).observe(waited)

    def held(self, held: Held, seconds: float, busy: float) -> None:
        """Count time of a lease."""
        labels = self._labels.get(held.pool)
        if labels is not None:
            self._granted.labels(*labels).inc(held.slots * seconds)
            self._busy.labels(*labels).inc(held.slots * busy)

    def ended(self, pool: str, outcome: str) -> None:
        """A lease has ended."""
        labels = self._labels.get(pool)
        if labels is not None:
            self._ended.labels(*labels, outcome).inc()
            if outcome == "reclaimed":
                self._reclaims.labels(*labels).inc()

    def present(self, snapshot: Snapshot, pools: Mapping[str, GpuPool]) -> None:
        """Set the gauges to what is so now."""
        waiting = Count(asked.wants[0].pool for asked in snapshot.queued if asked.wants)
        states = Count((held.pool, held.state) for held in snapshot.live)
        for name, labels in self._labels.items():
            self._queue.labels(*labels).set(waiting[name])
            for state in LIVE:
                self._leases.labels(*labels, state).set(states[name, state])
            if pools[name].places and name in snapshot.state.pools:
                for shape, (now, joined) in scattered(snapshot.state, name).items():
                    self._fragmentation.labels(*labels, shape).set(1 - now / joined if joined else 0)
