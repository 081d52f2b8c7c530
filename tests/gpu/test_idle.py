"""Idle by the surest signal there is, and never on ignorance."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from specola.gpu.idle import ENGINE_ACTIVE, FRESH, Kernel, Seen, all_seen, judge, observe
from specola.gpu.model import Sample

BEGUN, QUIET_AFTER = 1000.0, 1800.0

engines = st.none() | st.sampled_from([0.0, ENGINE_ACTIVE, 0.5, 1.0]) | st.floats(0, 1)
samples = st.lists(
    st.builds(
        Sample,
        at=st.floats(BEGUN, BEGUN + 7200),
        engine=engines,
        memory=st.none() | st.integers(0, 4),
        processes=st.none() | st.integers(0, 2),
    ),
    max_size=12,
).map(lambda many: sorted(many, key=lambda one: one.at))
kernels = st.none() | st.builds(
    Kernel, st.sampled_from(["busy", "idle"]), st.floats(BEGUN, BEGUN + 7200), st.booleans()
)
times = st.floats(BEGUN + 7200, BEGUN + 20000)
words = st.none() | st.floats(BEGUN, BEGUN + 7200)


def verdict(many, kernel=None, now=BEGUN + 8000, word=None):
    return judge(all_seen(many), kernel, now, begun=BEGUN, quiet_after=QUIET_AFTER, word=word)


def watched(until: float, *, engine: float | None = 0.0, memory: int = 0, processes: int = 0, since: float = BEGUN):
    return [Sample(since + step, engine, memory, processes) for step in range(0, int(until - since) + 1, 60)]


@given(samples, kernels, times, words)
def test_an_idle_lease_is_idle_since_some_time_of_its_own(many, kernel, now, word):
    found = verdict(many, kernel, now, word)
    assert found.idle_since is None or BEGUN <= found.idle_since <= now
    assert not (found.computing and found.idle_since is not None)


@given(samples, kernels, words, st.floats(ENGINE_ACTIVE * 1.01, 1))
def test_a_gpu_whose_engine_is_active_computes_whatever_else_is_said(many, kernel, word, engine):
    now = BEGUN + 7200
    found = verdict([*many, Sample(now, engine, 0, 0)], kernel, now, word)
    assert (found.idle_since, found.computing, found.signal) == (None, True, "gpu")


@given(samples, st.floats(BEGUN, BEGUN + 7200), times)
def test_a_busy_kernel_without_a_checkpoint_is_never_idle(many, since, now):
    assert verdict(many, Kernel("busy", since), now).idle_since is None


@given(samples, times, words)
def test_where_no_kernel_speaks_and_nothing_is_measured_nothing_is_idle(many, now, word):
    blind = [replace(one, engine=None, memory=None, processes=None) for one in many]
    found = verdict(blind, None, now, word)
    assert (found.idle_since, found.computing, found.signal) == (None, False, "none")


@given(samples, kernels, times, words)
def test_the_persons_word_never_makes_a_lease_idle_for_longer(many, kernel, now, word):
    without, spoken = verdict(many, kernel, now), verdict(many, kernel, now, word)
    assert (without.idle_since is None) == (spoken.idle_since is None)
    if without.idle_since is not None:
        assert spoken.idle_since >= without.idle_since


@given(samples, kernels, times)
def test_measurements_from_before_the_last_say_nothing(many, kernel, now):
    seen = all_seen(many)
    if seen.last is not None:
        assert observe(seen, Sample(seen.last - 1, 1.0, 9, 9)) == seen


@given(samples, st.floats(1, 3000))
def test_a_checkpoint_lets_a_busy_kernel_be_idle_exactly_after_the_quiet_time(many, quiet):
    start = BEGUN + 7200
    now = start + quiet
    calm = [
        *many,
        Sample(start, 1.0, 1, 1),
        *watched(now, since=start + 1e-6, memory=1, processes=1),
        Sample(now, 0.0, 1, 1),
    ]
    found = verdict(calm, Kernel("busy", BEGUN, checkpoint=True), now)
    assert (found.idle_since is not None) == (quiet >= QUIET_AFTER)
    assert not found.computing
    assert found.signal == ("gpu" if quiet >= QUIET_AFTER else "kernel")


def test_the_last_to_fall_quiet_says_since_when():
    now = BEGUN + 3600
    assert verdict(watched(now), Kernel("idle", BEGUN + 1200), now) == verdict([], Kernel("idle", BEGUN + 1200), now)
    found = verdict(
        [*watched(BEGUN + 1800, engine=0.3), *watched(now, since=BEGUN + 1860)], Kernel("idle", BEGUN + 60), now
    )
    assert (found.idle_since, found.signal) == (BEGUN + 1800, "gpu")
    found = verdict(watched(now), Kernel("idle", BEGUN + 60), now, word=BEGUN + 3000)
    assert (found.idle_since, found.signal) == (BEGUN + 3000, "person")


def test_memory_that_changes_is_computing_where_no_engine_is_measured():
    now = BEGUN + 120
    growing = [Sample(BEGUN + step, None, step, 1) for step in (0, 60, 120)]
    assert (verdict(growing, None, now).computing, verdict(growing, None, now).signal) == (True, "process")
    assert verdict([*growing[:-1], Sample(now, None, 60, 1)], Kernel("idle", BEGUN), now).idle_since == BEGUN + 60


def test_flat_memory_proves_nothing_while_a_process_has_some():
    """Frameworks keep what they once had, so that training looks flat."""
    now = BEGUN + 7200
    flat = watched(now, engine=None, memory=9, processes=1)
    assert verdict(flat, Kernel("busy", BEGUN, checkpoint=True), now).idle_since is None
    assert verdict(flat, None, now).idle_since is None
    assert verdict(watched(now, engine=None), Kernel("busy", BEGUN, checkpoint=True), now).idle_since == BEGUN


def test_a_gpu_that_nobody_looks_at_any_more_is_not_known_to_be_quiet():
    now = BEGUN + 7200
    old = watched(now - FRESH - 61)
    found = verdict(old, Kernel("busy", BEGUN, checkpoint=True), now)
    assert (found.idle_since, found.computing, found.signal) == (None, True, "kernel")


def test_an_engine_that_is_measured_no_more_was_still_active_when_it_was():
    now = BEGUN + 600
    found = verdict([Sample(BEGUN, 0.9, 1, 1), Sample(now, None, 1, 0)], Kernel("idle", BEGUN), now + 60)
    assert found.idle_since == now
    assert observe(Seen(), Sample(BEGUN)) == Seen()
