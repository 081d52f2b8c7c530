"""The best fixed layout for what was asked before: for sites that cannot change the slices of their GPUs.

Each shape has a demand over time. The n-th slice of a shape is worth the requests that it would have served: the share
of time in which n or more were wanted at once, divided by how long one is used. As these gains only shrink, giving
one GPU after the other the layout that gains most is a good start; exchanging layouts of two GPUs ends the search.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from specola.gpu.geometry import GpuModel, Shape
from specola.gpu.packing import plain_shapes


@dataclass(frozen=True, slots=True)
class Used:
    """One request of the history: its shape, when it was asked, how long the slice was used."""

    shape: str
    asked: float
    seconds: float


Layout = tuple[str, ...]
"""shapes of one GPU, largest first"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A layout for every GPU, and what it would have served."""

    layouts: tuple[Layout, ...]
    """one for each GPU"""
    served: float
    """share of the requests of the history"""
    unserved: Mapping[str, int]
    """requests by shapes that the layout does not have"""


def patterns(model: GpuModel) -> tuple[Layout, ...]:
    """Every layout of one GPU to which nothing can be added, in plain shapes."""
    geometry = model.geometry
    shapes = [geometry.shapes[shape] for shape in plain_shapes(geometry) if shape in model.profiles]
    found: set[Layout] = set()

    @cache
    def lay(free: int, chosen: Layout) -> None:
        fitting = [(shape, start) for shape in shapes for start in shape.starts if _fits(free, shape, start)]
        if not fitting:
            found.add(chosen)
        for shape, start in fitting:
            lay(free & ~(((1 << shape.size) - 1) << start), tuple(sorted((*chosen, shape.name), reverse=True)))

    lay((1 << geometry.slots) - 1, ())
    return tuple(sorted(found))


def _fits(free: int, shape: Shape, start: int) -> bool:
    bits = ((1 << shape.size) - 1) << start
    return free & bits == bits


def gains(history: Sequence[Used]) -> Mapping[str, tuple[float, ...]]:
    """By shape: the requests that the first, second, … slice would have served."""
    found: dict[str, tuple[float, ...]] = {}
    by_shape: dict[str, list[Used]] = defaultdict(list)
    for used in history:
        by_shape[used.shape].append(used)
    for shape, uses in by_shape.items():
        steps = sorted([(used.asked, 1) for used in uses] + [(used.asked + used.seconds, -1) for used in uses])
        busy: dict[int, float] = defaultdict(float)
        level, before = 0, steps[0][0]
        for at, step in steps:
            for number in range(1, level + 1):
                busy[number] += at - before
            level, before = level + step, at
        mean = sum(used.seconds for used in uses) / len(uses)
        found[shape] = tuple(busy[number] / mean for number in sorted(busy)) if mean else ()
    return found


def propose(history: Sequence[Used], model: GpuModel, cards: int) -> Proposal:
    """The layout of so many GPUs that would have served most of what was asked."""
    worth = gains(history)
    choices = patterns(model)
    chosen: list[Layout] = []
    for _ in range(cards):
        have = Counter(shape for layout in chosen for shape in layout)
        chosen.append(max(choices, key=lambda layout: _gain(worth, have, layout)))
    chosen = _exchanged(chosen, choices, worth)
    have = Counter(shape for layout in chosen for shape in layout)
    asked = Counter(used.shape for used in history)
    served = sum(sum(worth.get(shape, ())[:number]) for shape, number in have.items())
    return Proposal(
        tuple(sorted(chosen, reverse=True)),
        min(1.0, served / len(history)) if history else 0.0,
        {shape: number for shape, number in sorted(asked.items()) if not have[shape]},
    )


def _gain(worth: Mapping[str, tuple[float, ...]], have: Counter[str], layout: Layout) -> tuple[float, int]:
    """What a layout adds; of two that add the same, the one with more slices."""
    total = 0.0
    for shape, number in Counter(layout).items():
        total += sum(worth.get(shape, ())[have[shape] : have[shape] + number])
    return total, len(layout)


def _exchanged(chosen: list[Layout], choices: Sequence[Layout], worth: Mapping[str, tuple[float, ...]]) -> list[Layout]:
    """Replace the layout of one GPU at a time as long as something is gained."""
    improved = True
    while improved:
        improved = False
        for index, layout in enumerate(chosen):
            have = Counter(shape for at, other in enumerate(chosen) if at != index for shape in other)
            best = max(choices, key=lambda other: _gain(worth, have, other))
            if _gain(worth, have, best)[0] > _gain(worth, have, layout)[0] + 1e-9:
                chosen[index] = best
                improved = True
    return chosen
