"""When a notebook server is stopped.

A running cell, a connected kernel and a cluster are activity, whoever looks at it; a browser tab
that is merely open is not. Without activity for the idle limit, a server stops; its owner is warned
before. A longest life, where a facility sets one, ends a server whatever it does, and is announced
in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Why = Literal["idle", "age"]


@dataclass(frozen=True)
class Limits:
    """Seconds; 0 switches a limit off."""

    idle: float
    warning: float
    life: float = 0


@dataclass(frozen=True)
class Facts:
    """What is known of one server, in seconds since the epoch."""

    started: float
    last_active: float
    busy_with: str | None = None


@dataclass(frozen=True)
class Keep:
    """Nothing to do; `at` is when it would stop if nothing happened any more, None for never."""

    at: float | None
    why: Why | None


@dataclass(frozen=True)
class Warn:
    """Its owner is to know that it stops at `at`."""

    at: float
    why: Why


@dataclass(frozen=True)
class Stop:
    """It is to be stopped now."""

    why: Why


Decision = Keep | Warn | Stop


def busy_with(kernels_busy: int, kernels_connected: int, clusters: int) -> str | None:
    """What counts as activity, in words; the strongest reason first."""
    if kernels_busy:
        return "a running cell"
    if clusters:
        return "a cluster"
    if kernels_connected:
        return "a connected kernel"
    return None


def ends_at(now: float, facts: Facts, limits: Limits) -> tuple[float, Why] | None:
    """The earliest end that a limit sets, None when no limit applies."""
    ends: list[tuple[float, Why]] = []
    if limits.life > 0:
        ends.append((facts.started + limits.life, "age"))
    if limits.idle > 0:
        # somebody who works now has the whole limit before them
        last = now if facts.busy_with else min(max(facts.last_active, facts.started), now)
        ends.append((last + limits.idle, "idle"))
    return min(ends, default=None)


def decide(now: float, facts: Facts, limits: Limits) -> Decision:
    """Keep, warn or stop one server."""
    end = ends_at(now, facts, limits)
    if end is None:
        return Keep(None, None)
    at, why = end
    if at <= now:
        return Stop(why)
    # a warning never takes more than half of the limit, or a short limit would warn from the first moment
    notice = min(limits.warning, (limits.idle if why == "idle" else limits.life) / 2)
    if at - now <= notice:
        return Warn(at, why)
    return Keep(at, why)
