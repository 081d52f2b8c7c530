"""`/specola/workers` on the scheduler's socket: the live numbers that a panel or a notebook draws.

The shape is ours and stays, whatever distributed renames:

{"workers": [{name, host, nthreads, memory, memory_limit, cpu, executing, ready, spilled}, …],
 "totals": {workers, nthreads, memory, memory_limit, cpu, executing, ready, spilled},
 "tasks": {processed, erred, in_memory, processing, waiting, bytes},
 "idle_since": seconds since the epoch, or null while there is work}

Memory is in bytes, `cpu` in percent of one core; `processed` and `erred` count since the scheduler started.
"""

from __future__ import annotations

from typing import Any

from distributed.comm import get_address_host
from distributed.http.utils import RequestHandler

SUMMED = ("nthreads", "memory", "memory_limit", "cpu", "executing", "ready", "spilled")


def describe(worker: Any) -> dict[str, Any]:
    """One worker as its scheduler last heard of it."""
    metrics = worker.metrics
    return {
        "name": str(worker.name),
        "host": get_address_host(worker.address),
        "nthreads": worker.nthreads,
        "memory": int(metrics.get("memory", 0)),
        "memory_limit": int(worker.memory_limit or 0),
        "cpu": round(float(metrics.get("cpu", 0.0)), 1),
        "executing": len(worker.executing),
        "ready": max(0, len(worker.processing) - len(worker.executing)),
        "spilled": int(metrics.get("spilled_bytes", {}).get("disk", 0)),
    }


def idle_since(scheduler: Any) -> float | None:
    """When the last work ended; None while something runs or waits for a worker."""
    if scheduler.unrunnable or scheduler.queued or any(w.processing for w in scheduler.workers.values()):
        return None
    log = scheduler.transition_log
    return float(log[-1][-1] if log else scheduler.time_started)


def describe_tasks(scheduler: Any) -> dict[str, int]:
    """How far the work is, over all computations."""
    prefixes = scheduler.task_prefixes.values()
    states: dict[str, int] = {}
    for task in scheduler.tasks.values():
        states[task.state] = states.get(task.state, 0) + 1
    return {
        "processed": sum(prefix.state_counts["memory"] for prefix in prefixes),
        "erred": sum(prefix.state_counts["erred"] for prefix in prefixes),
        "in_memory": states.get("memory", 0),
        "processing": states.get("processing", 0),
        "waiting": states.get("waiting", 0) + states.get("queued", 0) + states.get("no-worker", 0),
        "bytes": sum(worker.nbytes for worker in scheduler.workers.values()),
    }


def describe_cluster(scheduler: Any) -> dict[str, Any]:
    """The whole answer of `/specola/workers`."""
    workers = [describe(worker) for worker in scheduler.workers.values()]
    totals: dict[str, Any] = {key: sum(worker[key] for worker in workers) for key in SUMMED}
    return {
        "workers": workers,
        "totals": {"workers": len(workers), **totals},
        "tasks": describe_tasks(scheduler),
        "idle_since": idle_since(scheduler),
    }


class WorkersHandler(RequestHandler):
    """Answers on the socket that only the cluster's owner can open."""

    def get(self) -> None:
        """Write the numbers of this moment."""
        self.set_header("Cache-Control", "no-store")
        self.write(describe_cluster(self.server))


routes: list[tuple[str, type[WorkersHandler], dict[str, object]]] = [("specola/workers", WorkersHandler, {})]
