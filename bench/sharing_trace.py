"""Five working days of interactive GPU use, made from a seed: who comes when, wants what, and computes how much of it.

All numbers here are assumptions, and none is a measurement: nobody has published how INFN's, or any physics facility's,
notebooks use their GPUs. The share of a session in which its GPU computes (the duty) matters most and is therefore
swept. The rest:

- 110 sessions a day, most of them begun around 13:00; a course of 40 seats on four mornings, of whom 85 % come;
- a session lasts 2.5 h (median, lognormal, at most 9 h), a student's 3.5 h;
- it computes in bursts of 4 min (median, lognormal, mean 6.6 min), with gaps whose mean follows from the duty;
- in every sixth gap the kernel is busy while the GPU is quiet: data are read, or a fit runs on the CPU;
- of the people, 45 % want a 1g, 12 % 1gx2, 20 % 2g, 13 % 3g, 5 % 4g, 5 % the whole GPU; students want a 1g;
- somebody who waits loses patience after 20 min on average; 30 % stop their server when they leave;
- half of the sessions register a checkpoint.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

HOUR, DAY = 3600.0, 86400.0
DAYS = 5
PER_DAY = 110
SEATS, SHOW_UP, COURSE_DAYS, COURSE_AT, COURSE_LASTS = 40, 0.85, 4, 9 * HOUR, 3.5 * HOUR
MIX = {"1g": 0.45, "1gx2": 0.12, "2g": 0.20, "3g": 0.13, "4g": 0.05, "7g": 0.05}
LASTS, LASTS_SPREAD, LONGEST = 2.5 * HOUR, 0.5, 9 * HOUR
OPENS, CLOSES = 8 * HOUR, 18.5 * HOUR
BURST, BURST_SPREAD, GAP_SPREAD = 240.0, 1.0, 1.0
QUIET = 1 / 6
PATIENCE = 1200.0
STOPS = 0.3
CHECKPOINT = 0.5


@dataclass(frozen=True)
class Step:
    """A burst, and the gap after it, in seconds; in a quiet gap the kernel is busy and the GPU is not."""

    burst: float
    gap: float
    quiet: bool
    patience: float


@dataclass(frozen=True)
class Session:
    """One person's work from coming to leaving."""

    number: int
    start: float
    shape: str
    steps: tuple[Step, ...]
    stops: bool
    """whether the person stops the server when leaving"""
    checkpoint: bool
    patience: float
    """seconds that it waits for a slice for the whole session"""

    @property
    def length(self) -> float:
        """Seconds from coming to leaving."""
        return sum(step.burst + step.gap for step in self.steps)


def trace(seed: int, duty: float) -> list[Session]:
    """The sessions of five days, by start; the gaps are scaled so that the duty over all of them is as asked.

    Who comes when, for what and for how long depends on the seed alone.
    """
    shorter, longer = 0.3, 3.0
    for _ in range(12):
        scale = (shorter * longer) ** 0.5
        found = _trace(seed, duty, scale)
        busy = sum(step.burst for session in found for step in session.steps)
        if busy > duty * sum(session.length for session in found):
            shorter = scale
        else:
            longer = scale
    return found


def _trace(seed: int, duty: float, scale: float) -> list[Session]:
    chance = random.Random(f"sessions {seed}")
    found: list[tuple[float, float, str]] = []
    for day in range(DAYS):
        for _ in range(_poisson(chance, PER_DAY)):
            length = min(LONGEST, chance.lognormvariate(math.log(LASTS), LASTS_SPREAD))
            shape = chance.choices(list(MIX), list(MIX.values()))[0]
            found.append((day * DAY + _comes(chance), length, shape))
        if day < COURSE_DAYS:
            coming = [chance.gauss(COURSE_AT, 300) for _ in range(SEATS) if chance.random() < SHOW_UP]
            found += [(day * DAY + at, COURSE_LASTS, "1g") for at in coming]
    sessions = []
    for number, (start, length, shape) in enumerate(sorted(found)):
        stops, checkpoint = chance.random() < STOPS, chance.random() < CHECKPOINT
        steps = _steps(random.Random(f"steps {seed} {duty} {number}"), length, duty, scale)
        patience = chance.expovariate(1 / PATIENCE)
        sessions.append(Session(number, start, shape, steps, stops, checkpoint, patience))
    return sessions


def _poisson(chance: random.Random, mean: float) -> int:
    return round(chance.gauss(mean, math.sqrt(mean)))


def _comes(chance: random.Random) -> float:
    """More often in the middle of the day: half a period of a sine."""
    return OPENS + (CLOSES - OPENS) * math.acos(1 - 2 * chance.random()) / math.pi


def _steps(chance: random.Random, length: float, duty: float, scale: float) -> tuple[Step, ...]:
    """Bursts and gaps until the time is up; the last one is cut short."""
    mean = BURST * math.exp(BURST_SPREAD**2 / 2)
    gap = scale * mean * (1 - duty) / duty * math.exp(-(GAP_SPREAD**2) / 2)
    steps: list[Step] = []
    left = length
    while left > 0:
        burst = min(left, chance.lognormvariate(math.log(BURST), BURST_SPREAD))
        pause = min(left - burst, chance.lognormvariate(math.log(gap), GAP_SPREAD))
        steps.append(Step(burst, pause, chance.random() < QUIET, chance.expovariate(1 / PATIENCE)))
        left -= burst + pause
    return tuple(steps)
