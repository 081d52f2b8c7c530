"""What time does to leases: which are over, which are going, which may be asked to go, which may be renewed."""

from __future__ import annotations

from dataclasses import dataclass, field

from specola.gpu.state import Cause, End, Holding, Lapse, Notice, State, Terms

RENEW_BEFORE = 900.0
"""a lease that computes is renewed by itself when no more seconds than this are left: before its holder is warned"""
RENEW_BY = 1800.0
"""for so many seconds"""


@dataclass(slots=True)
class Phases:
    """Leases by what may become of them; those in no list stay as they are."""

    over: list[End | Lapse | Notice] = field(default_factory=list)
    going: list[Holding] = field(default_factory=list)
    """their slots will be free within the notice and the time for saving"""
    noticed: list[Holding] = field(default_factory=list)
    """were asked to go for somebody else, and can be told to stay"""
    resumed: list[Holding] = field(default_factory=list)
    """were asked to go, and compute again"""
    idle: list[Holding] = field(default_factory=list)
    """may be asked to go"""
    renewable: list[Holding] = field(default_factory=list)


def phases(state: State, now: float) -> Phases:
    """Sort the leases."""
    found = Phases()
    terms = state.terms
    for holding in state.holdings:
        if holding.state == "active":
            _active(found, holding, terms, now)
        elif holding.state == "expiring":
            _expiring(found, holding, terms, now)
        elif holding.state == "offered":
            if holding.expires is not None and holding.expires <= now:
                found.over.append(Lapse(holding.id))
                found.going.append(holding)
        elif holding.state in {"saving", "ending"}:
            found.going.append(holding)
    return found


def _active(found: Phases, holding: Holding, terms: Terms, now: float) -> None:
    expires = holding.expires
    if expires is not None and expires - now <= terms.notice:
        ended = expires <= now
        found.over.append(End(holding.id, "term") if ended else Notice(holding.id, expires, "term"))
        found.going.append(holding)
    elif is_idle(holding, terms, now):
        found.idle.append(holding)
    elif expires is not None and holding.computing and expires - now <= RENEW_BEFORE:
        found.renewable.append(holding)


def is_idle(holding: Holding, terms: Terms, now: float) -> bool:
    """Whether an active lease may be asked to go when somebody waits for its slice."""
    if holding.idle_since is None or holding.computing or not holding.reclaimable:
        return False
    begun = holding.granted if holding.active is None else holding.active
    return now - holding.idle_since >= terms.idle_after and now - begun >= terms.youngest


def _expiring(found: Phases, holding: Holding, terms: Terms, now: float) -> None:
    why = cause(holding)
    if holding.ends_at is not None and holding.ends_at <= now:
        found.over.append(End(holding.id, why))
        found.going.append(holding)
    elif why in {"term", "released"} or (holding.expires is not None and holding.expires - now <= terms.notice):
        found.going.append(holding)
    elif holding.computing:
        found.resumed.append(holding)
        if holding.expires is not None and holding.expires - now <= RENEW_BEFORE:
            found.renewable.append(holding)
    else:
        found.noticed.append(holding)


def cause(holding: Holding) -> Cause:
    """Why notice was given; where nobody kept it, a lease that ends with its term ends for its term."""
    if holding.cause is not None:
        return holding.cause
    return "term" if holding.ends_at == holding.expires else "reclaimed"
