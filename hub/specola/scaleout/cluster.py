"""One Dask cluster as people see it: what the gateway reports, the API answers and the panel draws."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from specola.core.section import Section


class Status(StrEnum):
    """The life of a cluster, in order."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return self in (Status.STOPPED, Status.FAILED)


class Workers(Section):
    """Numbers of workers: asked for, at work, on their way."""

    wanted: int = 0
    running: int = 0
    starting: int = 0


class Adaptive(Section):
    """The range within which a cluster follows its work."""

    minimum: int = 0
    maximum: int


class Cluster(Section):
    """A cluster of one person."""

    name: str
    site: str
    environment: str
    status: Status
    reason: str = Field(default="", description="why it is so, in words")
    workers: Workers = Workers()
    adaptive: Adaptive | None = None
    started: float = Field(description="seconds since the epoch")
    idle_since: float | None = Field(default=None, description="seconds since the epoch; null while there is work")
    stops_at: float | None = Field(default=None, description="when it will stop for want of work")
    dashboard: str | None = Field(default=None, description="path below the owner's server, without a leading slash")


class OwnedCluster(Cluster):
    """A cluster with its owner; only between gateway and API service."""

    person: str

    def public(self) -> Cluster:
        """What the owner may see."""
        return Cluster.model_validate(self.model_dump(exclude={"person"}))
