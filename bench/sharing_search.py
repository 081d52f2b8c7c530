"""How many GPUs a policy needs, and for a fixed layout: which one is best."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from specola.gpu import layouts
from specola.gpu.adapters.profiles import models

from bench.sharing_run import CULL, IDLE, Policy, Run, Tally
from bench.sharing_trace import Session

MODEL = models()["A100-40GB"]
BALANCED = ("3g", "2g", "1g", "1g")
Layout = tuple[tuple[str, ...], ...]


def played(policy: Policy, traces: Sequence[Sequence[Session]], cards: int, layout: Layout | None = None) -> Tally:
    """All traces under one policy."""
    total = Tally()
    for sessions in traces:
        total.add(Run(policy, sessions, cards if layout is None else layout).play())
    return total


def balanced(cards: int) -> Layout:
    """Two 1g, a 2g and a 3g on every GPU, but every sixth whole."""
    return tuple(("7g",) if index % 6 == 5 else BALANCED for index in range(cards))


@cache
def patterns() -> tuple[tuple[str, ...], ...]:
    """Layouts of one GPU to which nothing can be added."""
    return layouts.patterns(MODEL)


def history(policy: Policy, traces: Sequence[Sequence[Session]]) -> list[layouts.Used]:
    """What was asked, as a site would have recorded it."""
    found: list[layouts.Used] = []
    for number, sessions in enumerate(traces):
        for session in sessions:
            at = session.start + number * 1e7
            if not policy.leased:
                found.append(layouts.Used(session.shape, at, session.length + (0 if session.stops else CULL)))
                continue
            for step in session.steps:
                found.append(layouts.Used(session.shape, at, step.burst + min(step.gap, IDLE)))
                at += step.burst + step.gap
    return found


def searched(policy: Policy, traces: Sequence[Sequence[Session]], cards: int, tries: int) -> tuple[Layout, Tally]:
    """The best layout found: the one that the history proposes, then exchanges of single GPUs that are played out.

    It is searched on the very weeks on which it is judged, which flatters it; of leases, on the first two of them.
    """
    chance = random.Random(cards)
    best: Layout = layouts.propose(history(policy, traces), MODEL, cards).layouts
    every, traces = traces, traces[:2] if policy.leased and tries else traces
    tally = played(policy, traces, cards, best)
    for _ in range(tries):
        other = list(best)
        for _ in range(chance.choice((1, 1, 2))):
            other[chance.randrange(cards)] = chance.choice(patterns())
        result = played(policy, traces, cards, tuple(other))
        if worth(result) > worth(tally):
            best, tally = tuple(other), result
    return best, tally if traces is every else played(policy, every, cards, best)


def worth(tally: Tally) -> float:
    """How far a result is from 95 % in time and 2 % given up: the worse of the two counts, then both."""
    early = min(0.0, tally.in_time / tally.asked - 0.95)
    patient = min(0.0, 0.02 - tally.gave_up / tally.asked)
    return 1000 * min(early, patient) + tally.in_time / tally.asked - tally.gave_up / tally.asked


def needed(
    policy: Policy, traces: Sequence[Sequence[Session]], guess: int, tries: int
) -> tuple[tuple[int, Tally], tuple[int, Tally]]:
    """The fewest GPUs for 95 % in 60 s and at most 2 % given up, all weeks together; then for the starts as well."""
    known: dict[int, Tally] = {}

    def at(cards: int) -> Tally:
        if cards not in known:
            one = known[cards] = _judged(policy, traces, cards, tries)
            print(
                f"{policy.name} {cards}: in time {one.in_time / one.asked:.4f}, "
                f"given up {one.gave_up / one.asked:.4f}; "
                f"starts {one.starts_in_time / one.starts:.4f}, {one.starts_given_up / one.starts:.4f}; "
                f"{one.losses:.3f} lost, {one.restores:.3f} restored",
                flush=True,
            )
        return known[cards]

    cards = guess
    while not at(cards).good:
        cards += 1
    while cards > 1 and at(cards - 1).good:
        cards -= 1
    strict = cards
    while not (at(strict).good and at(strict).good_starts):
        strict += 1
    return (cards, known[cards]), (strict, known[strict])


def _judged(policy: Policy, traces: Sequence[Sequence[Session]], cards: int, tries: int) -> Tally:
    if not policy.fixed:
        return played(policy, traces, cards)
    if policy.whole:
        return played(policy, traces, cards, (("7g",),) * cards)
    if policy.name == "B":
        return played(policy, traces, cards, balanced(cards))
    return searched(policy, traces, cards, tries)[1]
