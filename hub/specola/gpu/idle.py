"""Whether a lease is idle, and which step of the ladder says so: pure, no I/O.

The steps, the surest first: the compute *engine* is active (NVML GPM or DCGM) > a *process* is there and its memory
changes > the *kernel* says busy > the *person* asked for it, by renewing. A lease is idle since the last of them fell
quiet; while one is active it is not idle at all. What nobody can measure is left out, and where nothing is known
nothing is idle.

A kernel that is busy while its GPU has long been quiet (a cell that waits for a file, a forgotten loop) counts as idle
only if it can save itself, that is once it has registered a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

ENGINE_ACTIVE = 0.01
"""share of time with the engine active above which a GPU computes"""
FRESH = 120.0
"""seconds after which a measurement says nothing about now"""

Step = Literal["gpu", "process", "kernel", "person", "none"]


class Measured(Protocol):
    """What a slice did at one moment, as `model.Sample` has it."""

    @property
    def at(self) -> float:
        """When."""

    @property
    def engine(self) -> float | None:
        """Share of time with the engine active."""

    @property
    def memory(self) -> int | None:
        """Bytes in use."""

    @property
    def processes(self) -> int | None:
        """How many use it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is kept of a lease's measurements; plain values, so that it can be stored and read again."""

    first: float | None = None
    """when it was first measured"""
    engine_first: float | None = None
    """when its engine was first measured"""
    last: float | None = None
    engine: float | None = None
    """as last measured"""
    engine_at: float | None = None
    """when the engine was last active"""
    memory: int | None = None
    processes: int | None = None
    changed_at: float | None = None
    """when its processes or their memory last changed"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel last said of itself."""

    state: Literal["busy", "idle"]
    since: float
    checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`idle_since` is None while the lease is not idle, or nobody can say."""

    idle_since: float | None
    computing: bool
    signal: Step


def observe(seen: Seen, sample: Measured) -> Seen:
    """What is kept after one more measurement; one from before the last says nothing."""
    if (seen.last is not None and sample.at < seen.last) or (
        sample.engine is None and sample.memory is None and sample.processes is None
    ):
        return seen
    active = sample.engine is not None and sample.engine > ENGINE_ACTIVE
    return replace(
        seen,
        first=sample.at if seen.first is None else seen.first,
        last=sample.at,
        engine=sample.engine,
        engine_first=sample.at if seen.engine_first is None and sample.engine is not None else seen.engine_first,
        engine_at=sample.at if active else seen.engine_at,
        memory=sample.memory,
        processes=sample.processes,
        changed_at=sample.at if _changed(seen, sample) else seen.changed_at,
    )


def _changed(seen: Seen, sample: Measured) -> bool:
    """Whether processes came or went, or one is there whose memory is another than before."""
    if seen.first is None:
        return False
    moved = seen.memory is not None and sample.memory is not None and sample.memory != seen.memory
    came = seen.processes is not None and sample.processes is not None and sample.processes != seen.processes
    return came or (moved and sample.processes != 0)


def judge(
    seen: Seen, kernel: Kernel | None, now: float, *, begun: float, quiet_after: float, word: float | None = None
) -> Verdict:
    """The verdict for a lease that began at `begun`; `word` is when its person last asked for it."""
    fresh = seen.last is not None and now - seen.last <= FRESH
    step = _computes(seen) if fresh else None
    if step is not None:
        return Verdict(None, computing=True, signal=step)
    quiet = _quiet(seen, begun) if fresh else None
    if kernel is not None and kernel.state == "busy" and not _overruled(kernel, quiet, now, quiet_after):
        return Verdict(None, computing=quiet is None, signal="kernel")
    if kernel is None and (quiet is None or not quiet.sure):
        return Verdict(None, computing=False, signal="none" if quiet is None else quiet.step)
    times: list[tuple[float, Step]] = [] if quiet is None else [(quiet.since, quiet.step)]
    if kernel is not None and kernel.state == "idle":
        times.append((kernel.since, "kernel"))
    if word is not None:
        times.append((word, "person"))
    since, signal = max(times, key=lambda one: one[0])
    return Verdict(min(now, max(begun, since)), computing=False, signal=signal)


@dataclass(frozen=True, slots=True)
class _Quiet:
    """Since when the GPU is quiet, and what says so; `sure` unless it may compute with its memory unchanged."""

    since: float
    step: Step
    sure: bool


def _computes(seen: Seen) -> Step | None:
    """The step that says the GPU computes as of the last measurement."""
    if seen.engine is not None:
        return "gpu" if seen.engine > ENGINE_ACTIVE else None
    return "process" if seen.processes != 0 and seen.changed_at is not None and seen.changed_at == seen.last else None


def _quiet(seen: Seen, begun: float) -> _Quiet:
    """At the earliest since it is looked at."""
    process = _latest(begun, seen.first, seen.changed_at)
    engine = _latest(begun, seen.engine_first, seen.engine_at)
    if seen.engine is None:
        # frameworks keep their memory for themselves: that it does not change is no proof while a process has some
        return _Quiet(max(process, engine), "process", sure=seen.processes == 0)
    return _Quiet(max(process, engine), "process" if process > engine else "gpu", sure=True)


def _overruled(kernel: Kernel, quiet: _Quiet | None, now: float, quiet_after: float) -> bool:
    """Whether a busy kernel counts as idle: its GPU has surely been quiet for long, and it can save itself."""
    return kernel.checkpoint and quiet is not None and quiet.sure and now - quiet.since >= quiet_after


def _latest(begun: float, *times: float | None) -> float:
    return max([begun, *(time for time in times if time is not None)])


def all_seen(samples: Iterable[Measured]) -> Seen:
    """What is kept of many measurements, in order."""
    seen = Seen()
    for sample in samples:
        seen = observe(seen, sample)
    return seen
