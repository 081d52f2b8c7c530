"""The facility, as written in facility.yaml: a composition of the features' own sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from specola.core.section import AbsolutePath, GiB, GroupPath, Seconds, Section
from specola.gpu.model import GpuSection, GroupGpu
from specola.identity.model import EmbeddedIdentity, IdentitySection, Role
from specola.scaleout.model import GroupScaleout, ScaleoutSection

ClassName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9_]*$")]
TraitName = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9_]*$")]


class Homes(Section):
    """`homes:` where people's files lie."""

    path: AbsolutePath | None = Field(default=None, description="directory of the homes; beside the state when absent")
    skeleton: AbsolutePath | None = Field(default=None, description="directory whose files a new home starts with")
    quota_gib: GiB | None = Field(
        default=None, description="size of one home; warned at 95 %, enforced where the file system has user quotas on"
    )


class Servers(Section):
    """`servers:` limits of one notebook server."""

    idle_limit: Seconds = Field(default=3600, description="a server without activity stops after this long; 0: never")
    idle_warning: Seconds = Field(default=300, description="how long before that its owner is warned")
    longest_life: Seconds = Field(default=0, description="a server is stopped at this age whatever it does; 0: never")
    memory_gib: GiB | None = Field(default=None, description="memory of one server with its kernels")
    cores: float | None = Field(default=None, gt=0, description="processor cores of one server with its kernels")


class Group(Section):
    """`groups.<name>:` what members of a group may use."""

    roles: tuple[Role, ...] = Field(default=(Role.USER,), description="roles that membership gives")
    members: tuple[str, ...] = Field(default=(), description="our own roster: people added to what their token says")
    memory_gib: GiB | None = Field(default=None, description="memory of a member's server, when more than the default")
    cores: float | None = Field(
        default=None, gt=0, description="cores of a member's server, when more than the default"
    )
    gpu: GroupGpu = Field(default=GroupGpu(), description="what it may have of the GPUs")
    scaleout: GroupScaleout = Field(default=GroupScaleout(), description="budget for Dask workers")


class Notice(Section):
    """One line that everybody sees on the start page."""

    level: Literal["info", "warning"] = Field(default="info", description="how it is drawn")
    text: str = Field(description="plain text")


class Facility(Section):
    """One whole facility. Every key has a default that works on one machine."""

    name: str = Field(default="specola", pattern=r"^[a-z][a-z0-9-]{0,30}$", description="short name, shown everywhere")
    identity: IdentitySection = Field(default=EmbeddedIdentity(), description="who may log in, and how")
    groups: dict[GroupPath, Group] = Field(
        default={"physics": Group()}, description="groups that may use the facility; nobody else may"
    )
    homes: Homes = Field(default=Homes(), description="home directories")
    servers: Servers = Field(default=Servers(), description="notebook servers")
    gpu: GpuSection = Field(default=GpuSection(), description="GPUs that people may ask for")
    scaleout: ScaleoutSection = Field(default=ScaleoutSection(), description="Dask clusters")
    notices: tuple[Notice, ...] = Field(default=(), description="shown on the start page")
    subdomains: bool = Field(default=False, description="each user server on a subdomain of the public URL's host")
    jupyterhub: dict[ClassName, dict[TraitName, Any]] = Field(
        default={}, description="escape hatch: class, trait, value of JupyterHub's own configuration"
    )
