"""What the API says about notebook servers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from specola.core.section import Section

SERVER_NAME = "([A-Za-z0-9_-][A-Za-z0-9._-]*)?"
"""A server's name becomes a segment of a path at the hub, so it never begins with a dot."""

State = Literal["starting", "running", "stopping"]


class Activity(Section):
    """What a server tells about itself once a minute."""

    server: str = Field(default="", max_length=200, description="name of the server; empty for the default one")
    kernels_busy: int = Field(ge=0, description="kernels that execute a cell")
    kernels_connected: int = Field(ge=0, description="kernels that a page or client is connected to")
    clusters: int = Field(default=0, ge=0, description="Dask clusters of its owner that run")
    home_used: int | None = Field(default=None, ge=0, le=2**60, description="bytes that its owner's home holds")


class Server(Section):
    """One notebook server of the caller."""

    name: str = Field(description="empty for the default server")
    state: State
    url: str = Field(description="path on this host at which it is reached")
    started: datetime | None = None
    busy_with: str | None = Field(default=None, description="what counts as activity at present")
    stops_at: datetime | None = Field(default=None, description="when it will be stopped if nothing changes")
    why: str | None = Field(default=None, description="why it will be stopped")
    warned: bool = Field(default=False, description="the end is near and its owner was told")


class HomeUse(Section):
    """How full a home was when a server of its owner last looked."""

    used: int = Field(ge=0, description="bytes")
    measured: datetime


class Servers(Section):
    """The caller's servers."""

    items: tuple[Server, ...]
    home: HomeUse | None = Field(default=None, description="absent until a server has measured it")
    next: None = None


class NewServer(Section):
    """Which of the caller's servers to start, and with which slice."""

    name: str = Field(default="", max_length=200, pattern=f"^{SERVER_NAME}$", description="empty: the default server")
    gpu: str | None = Field(
        default=None, min_length=1, max_length=256, repr=False, description="one-time grant of a GPU lease"
    )
