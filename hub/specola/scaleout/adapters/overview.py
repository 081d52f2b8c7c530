"""From the gateway's records to what people see."""

from __future__ import annotations

from dask_gateway_server.backends.db_base import Cluster as Record
from dask_gateway_server.backends.db_base import JobStatus

from specola.scaleout.adapters.wire import Report
from specola.scaleout.budget import count
from specola.scaleout.cluster import OwnedCluster, Status, Workers


def status_of(record: Record) -> Status:
    """One of our six words for upstream's pair of state and target."""
    if record.status == JobStatus.STOPPED:
        return Status.STOPPED
    if record.status == JobStatus.FAILED:
        return Status.FAILED
    if record.target >= JobStatus.CLOSING or record.status == JobStatus.CLOSING:
        return Status.STOPPING
    return {JobStatus.CREATED: Status.PENDING, JobStatus.SUBMITTED: Status.STARTING}.get(record.status, Status.RUNNING)


def workers_of(record: Record) -> Workers:
    """Numbers of workers; before the scheduler runs, what was asked for."""
    active = [worker for worker in record.workers.values() if worker.status < JobStatus.CLOSING and worker.is_active()]
    running = sum(worker.status == JobStatus.RUNNING for worker in active)
    return Workers(wanted=wanted(record), running=running, starting=len(active) - running)


def wanted(record: Record) -> int:
    """How many workers a cluster asks for."""
    if record.target >= JobStatus.CLOSING:
        return 0
    return int(record.count if record.status >= JobStatus.RUNNING else record.options.get("workers", 0))


def reason_of(status: Status, workers: Workers, note: str) -> str:
    """Why it is so, in words; `note` is what was recorded about an end or about a worker's failure."""
    if status in (Status.FAILED, Status.STOPPED, Status.STOPPING):
        return note
    if status is Status.PENDING:
        return "Waiting for its turn to start."
    if status is Status.STARTING:
        return "The scheduler is starting."
    missing = workers.wanted - workers.running
    if missing > 0:
        words = f"{count(missing, 'worker')} of {workers.wanted} {'is' if missing == 1 else 'are'} starting."
        return f"{words} {note}" if note else words
    return ""


def describe(record: Record, report: Report, note: str, idle_timeout: int) -> OwnedCluster:
    """A cluster as people see it."""
    status, workers = status_of(record), workers_of(record)
    running = status is Status.RUNNING
    idle_since = report.idle_since if running else None
    return OwnedCluster(
        name=record.name,
        person=record.username,
        site=record.options.get("site", ""),
        environment=record.options.get("environment", ""),
        status=status,
        reason=reason_of(status, workers, note),
        workers=workers,
        adaptive=report.adaptive if running else None,
        started=record.start_time / 1000,
        idle_since=idle_since,
        stops_at=idle_since + idle_timeout if idle_since is not None and idle_timeout else None,
        dashboard=f"specola/clusters/{record.name}/dashboard/status" if running else None,
    )


def last_lines(log: str, lines: int = 3, width: int = 200) -> str:
    """The end of a log for a reason: lines that say something, without their time stamps' noise."""
    said = [line.strip()[:width] for line in log.splitlines() if line.strip()]
    return " / ".join(said[-lines:])
