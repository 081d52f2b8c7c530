"""What the API takes and gives besides clusters themselves."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from specola.core.section import Section
from specola.scaleout.cluster import Cluster


class Site(Section):
    """A place where workers can run."""

    name: str
    kind: str
    available: bool = Field(description="open to one of the caller's groups")
    reason: str = Field(default="", description="why it is not available")
    free: int = Field(description="workers that the caller may still ask for")
    max_workers: int = Field(description="workers that the caller may have over all clusters")
    environments: tuple[str, ...]


class Sites(Section):
    """All sites of the facility."""

    items: tuple[Site, ...]
    next: None = None


class Clusters(Section):
    """The caller's clusters: those that run, and those that ended within the last hour."""

    items: tuple[Cluster, ...]
    next: None = None


class NewCluster(Section):
    """What a cluster is asked for with; empty names choose the first that is allowed."""

    site: str = Field(default="", max_length=100)
    environment: str = Field(default="", max_length=100)
    workers: int = Field(default=0, ge=0, le=100_000)


class Scale(Section):
    """Either a number of workers, or a range within which the cluster follows its work."""

    workers: int | None = Field(default=None, ge=0, le=100_000)
    minimum: int | None = Field(default=None, ge=0, le=100_000)
    maximum: int | None = Field(default=None, ge=0, le=100_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        fixed, ranged = self.workers is not None, self.minimum is not None or self.maximum is not None
        if fixed == ranged:
            raise ValueError("give either workers, or minimum and maximum")
        if ranged and (self.maximum is None or (self.minimum or 0) > self.maximum):
            raise ValueError("maximum is needed, and not less than minimum")
        return self
