"""The nouns of scale-out and its section of facility.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from specola.core.section import GiB, GroupName, Seconds, Section


class LocalSite(Section):
    """Workers as processes of this machine."""

    kind: Literal["local"] = "local"
    groups: tuple[GroupName, ...] = Field(default=(), description="groups that may use it; empty: everybody")


class ScaleoutSection(Section):
    """`scaleout:` of facility.yaml."""

    sites: dict[str, LocalSite] = Field(default={"here": LocalSite()}, description="where workers run")
    idle_timeout: Seconds = Field(default=1800, description="a cluster without work stops after this long; 0: never")
    worker_memory_gib: GiB = Field(default=2.0, description="memory of one worker")
    worker_cores: int = Field(default=1, ge=1, description="threads of one worker")
    max_workers: int = Field(default=8, ge=0, description="workers of one person, unless a group of theirs says more")
    max_clusters: int = Field(default=2, ge=1, description="clusters of one person")


class GroupScaleout(Section):
    """`groups.<name>.scaleout:` of facility.yaml."""

    max_workers: int | None = Field(default=None, ge=0, description="workers of one person in this group")
