"""What a person's server gets: the pure rules, and the plain form that says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from specola.facility.model import Facility


@dataclass(frozen=True)
class Offer:
    """Limits of one server with its kernels; None is no limit."""

    memory_gib: float | None
    cores: float | None
    gpus: bool = False
    """the facility has GPUs, and a server may start with a slice of one"""


def most(default: float | None, others: Iterable[float | None]) -> float | None:
    """The largest of a default and what groups add to it; no default is no limit, which nothing exceeds."""
    if default is None:
        return None
    return max([default, *(other for other in others if other is not None)])


def offer(facility: Facility, groups: Iterable[str]) -> Offer:
    """What the members of these groups get; groups that the facility does not declare add nothing."""
    known = [facility.groups[name] for name in groups if name in facility.groups]
    return Offer(
        memory_gib=most(facility.servers.memory_gib, (group.memory_gib for group in known)),
        cores=most(facility.servers.cores, (group.cores for group in known)),
        gpus=bool(facility.gpu.pools),
    )


def amounts(what: Offer) -> str:
    """An offer in words; empty when there is no limit."""
    parts = []
    if what.memory_gib is not None:
        parts.append(f"{what.memory_gib:g} GiB of memory")
    if what.cores is not None:
        parts.append(f"{what.cores:g} cores")
    return " and ".join(parts)


def form(what: Offer) -> str:
    """The part of the hub's plain start form that is ours: nothing to choose yet, so it says what one gets."""
    words = amounts(what)
    start = "It has no GPU. To start it with a slice of one, ask for that on the start page, which needs JavaScript."
    lines = [f"Your server gets {escape(words)}."] if words else []
    return "".join(f"<p>{line}</p>" for line in [*lines, *([start] if what.gpus else [])])
