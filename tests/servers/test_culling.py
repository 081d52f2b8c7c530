"""The one rule by which servers end, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specola.servers.culling import Facts, Keep, Limits, Stop, Warn, busy_with, decide

HOUR = 3600.0
NOW = 100 * HOUR
LIMITS = Limits(idle=HOUR, warning=300)
LIFE = Limits(idle=HOUR, warning=300, life=10 * HOUR)


def server(*, age: float = 5 * HOUR, idle: float = 0, busy: str | None = None) -> Facts:
    return Facts(started=NOW - age, last_active=NOW - idle, busy_with=busy)


@pytest.mark.parametrize(
    ("facts", "limits", "decision"),
    [
        (server(), LIMITS, Keep(NOW + HOUR, "idle")),
        (server(idle=54 * 60), LIMITS, Keep(NOW + 360, "idle")),
        (server(idle=55 * 60), LIMITS, Warn(NOW + 300, "idle")),
        (server(idle=HOUR - 1), LIMITS, Warn(NOW + 1, "idle")),
        (server(idle=HOUR), LIMITS, Stop("idle")),
        (server(idle=4 * HOUR, busy="a running cell"), LIMITS, Keep(NOW + HOUR, "idle")),
        (server(idle=4 * HOUR), Limits(idle=0, warning=300), Keep(None, None)),
        (server(age=60, idle=4 * HOUR), LIMITS, Keep(NOW + HOUR - 60, "idle")),
        (server(idle=-HOUR), LIMITS, Keep(NOW + HOUR, "idle")),
        (server(age=9 * HOUR + 3400, busy="a cluster"), LIFE, Warn(NOW + 200, "age")),
        (server(age=10 * HOUR, busy="a cluster"), LIFE, Stop("age")),
        (server(age=9.5 * HOUR, idle=59 * 60), LIFE, Warn(NOW + 60, "idle")),
        (server(age=20), Limits(idle=20, warning=300), Keep(NOW + 20, "idle")),
        (server(age=20, idle=11), Limits(idle=20, warning=300), Warn(NOW + 9, "idle")),
        (server(age=11 * HOUR), Limits(idle=0, warning=0, life=10 * HOUR), Stop("age")),
    ],
)
def test_the_rule(facts: Facts, limits: Limits, decision: object) -> None:
    assert decide(NOW, facts, limits) == decision


@pytest.mark.parametrize(
    ("counts", "reason"),
    [((0, 0, 0), None), ((1, 1, 1), "a running cell"), ((0, 2, 1), "a cluster"), ((0, 1, 0), "a connected kernel")],
)
def test_what_counts_as_activity(counts: tuple[int, int, int], reason: str | None) -> None:
    assert busy_with(*counts) == reason


@given(age=st.floats(0, 1e6), idle=st.floats(0, 1e6), limit=st.integers(1, 10**6), warning=st.integers(0, 10**6))
def test_nobody_is_stopped_without_having_been_warned(age: float, idle: float, limit: int, warning: int) -> None:
    """Between *keep* and *stop* there always is a time of *warn*, when a warning is wanted at all."""
    limits = Limits(idle=limit, warning=warning)
    facts = server(age=age, idle=idle)
    decision = decide(NOW, facts, limits)
    if isinstance(decision, Keep) and warning:
        assert decision.at is not None
        notice = min(warning, limit / 2)
        assert isinstance(decide(decision.at - notice * 0.9, facts, limits), Warn)


@given(idle=st.floats(0, 1e6), limit=st.integers(1, 10**6), warning=st.integers(0, 10**6))
def test_who_works_is_never_stopped_for_being_idle(idle: float, limit: int, warning: int) -> None:
    limits = Limits(idle=limit, warning=warning)
    assert isinstance(decide(NOW, server(idle=idle, busy="a running cell"), limits), Keep)
