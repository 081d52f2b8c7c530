"""An oracle for packing that knows nothing of the arithmetic under test: it tries every place, counters and all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache

from specola.gpu.geometry import Geometry, Shape

Part = tuple[int, int, str]
Gpu = tuple[Part, ...]
Bare = tuple[int, tuple[int, ...]]
"""occupied slots as bits, what is left of every counter"""


def bare(geometry: Geometry, gpu: Sequence[Part]) -> Bare:
    """What lies on a GPU, as the search needs it."""
    counters = sorted(geometry.capacity)
    mask, left = 0, [geometry.capacity[counter] for counter in counters]
    for start, size, shape in gpu:
        mask |= ((1 << size) - 1) << start
        for index, counter in enumerate(counters):
            left[index] -= geometry.shapes[shape].counters.get(counter, 0)
    return mask, tuple(left)


def laid(geometry: Geometry, state: Bare, shape: Shape, start: int) -> Bare | None:
    """The GPU with a slice more; None where something is in the way."""
    bits = ((1 << shape.size) - 1) << start
    left = tuple(
        amount - shape.counters.get(counter, 0)
        for amount, counter in zip(state[1], sorted(geometry.capacity), strict=True)
    )
    return None if state[0] & bits or min(left) < 0 else (state[0] | bits, left)


def fits(geometry: Geometry, gpus: Sequence[Gpu], need: Mapping[str, int]) -> bool:
    """Whether everything fits somewhere: exhaustive, with memory for what has been tried."""
    shapes = [
        geometry.shapes[shape]
        for shape in sorted(need, key=lambda name: (-geometry.size(name), name))
        for _ in range(need[shape])
    ]
    slots = geometry.slots

    @cache
    def rest(index: int, states: tuple[Bare, ...]) -> bool:
        if index == len(shapes):
            return True
        if sum(slots - mask.bit_count() for mask, _ in states) < sum(shape.size for shape in shapes[index:]):
            return False
        for at, state in enumerate(states):
            if at and states[at - 1] == state:
                continue
            for start in shapes[index].starts:
                after = laid(geometry, state, shapes[index], start)
                if after is not None and rest(index + 1, tuple(sorted((*states[:at], after, *states[at + 1 :])))):
                    return True
        return False

    return rest(0, tuple(sorted(bare(geometry, gpu) for gpu in gpus)))


def is_sound(geometry: Geometry, gpu: Sequence[Part]) -> bool:
    """Whether these slices can lie on one GPU together."""
    state: Bare | None = bare(geometry, ())
    for start, _, shape in gpu:
        if start not in geometry.shapes[shape].starts or state is None:
            return False
        state = laid(geometry, state, geometry.shapes[shape], start)
    return state is not None


def some_gpu(geometry: Geometry, chance: random.Random) -> Gpu:
    """A GPU with slices on it, as any order of making and ending them may leave it."""
    parts: list[Part] = []
    state = bare(geometry, ())
    for _ in range(chance.randint(0, 8)):
        shape = geometry.shapes[chance.choice(list(geometry.shapes))]
        start = chance.choice(shape.starts)
        after = laid(geometry, state, shape, start)
        if after is not None:
            state = after
            parts.append((start, shape.size, shape.name))
    return tuple(part for part in parts if chance.random() < 0.8)


def some_shapes(geometry: Geometry, chance: random.Random) -> list[str]:
    """A queue of shapes, larger than what fits, of few or of many kinds."""
    kinds = chance.sample(list(geometry.shapes), chance.randint(1, min(5, len(geometry.shapes))))
    return [chance.choice(kinds) for _ in range(60)]
