"""What fits on GPUs, exactly, while running slices stay where they are.

The arithmetic is in `halves` (GPUs of eight slots) and `quarters` (A30, RTX PRO 6000); here is the one face of both.
A GPU is given as what lies on it: `(start, size)`, or `(start, size, shape)`, which matters where engines other than
compute are counted (`1g+me`). A slice of unknown shape counts as a plain one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from specola.gpu.geometry import WHOLE, Geometry
from specola.gpu.placing import HalvesRoom, QuartersRoom, Room, Taken, check

__all__ = ["Room", "Taken", "check", "feasible", "fragmentation", "most", "place", "placeable", "room", "room_of"]


def room(geometry: Geometry, occupied: Iterable[Taken]) -> Room:
    """The free room of one GPU."""
    return room_of(geometry, [tuple(occupied)])


def room_of(geometry: Geometry, gpus: Sequence[Iterable[Taken]]) -> Room:
    """The free room of several GPUs, each given as what lies on it."""
    made = HalvesRoom(geometry, ()) if geometry.slots == 8 else QuartersRoom(geometry, ())
    made.fill([made.card(taken) for taken in gpus])
    return made


def feasible(geometry: Geometry, gpus: Sequence[Iterable[Taken]], need: Mapping[str, int]) -> bool:
    """Whether so many of each shape fit together on what is free."""
    return room_of(geometry, gpus).holds(need)


def place(
    geometry: Geometry, gpus: Sequence[Iterable[Taken]], need: Mapping[str, int]
) -> tuple[tuple[str, int, int], ...] | None:
    """(shape, index of the GPU, start) of everything that is needed; None when it does not fit."""
    found = room_of(geometry, gpus)
    shapes = [shape for shape, number in need.items() for _ in range(number)]
    if not all(map(found.promise, shapes)):
        return None
    return tuple((shape, *where) for shape, where in zip(shapes, found.place(), strict=True))


def placeable(geometry: Geometry, occupied: Iterable[Taken], shape: str) -> int:
    """How many of a shape one GPU can still take."""
    return room(geometry, occupied).count(shape)


def most(geometry: Geometry, gpus: Sequence[Iterable[Taken]], shape: str) -> int:
    """How many of a shape several GPUs can still take."""
    return room_of(geometry, gpus).count(shape)


def fragmentation(geometry: Geometry, gpus: Sequence[Sequence[Taken]]) -> Mapping[str, tuple[int, int]]:
    """By shape: how many fit now, and how many would if what runs were moved together.

    Shapes that differ in engines other than compute are left out.
    """
    now, joined = room_of(geometry, gpus), room_of(geometry, [_unmovable(taken) for taken in gpus])
    for taken in gpus:
        for part in taken:
            if len(part) == 3 and not joined.promise(part[2]):
                joined = now
                break
    return {shape: (now.count(shape), joined.count(shape)) for shape in plain_shapes(geometry)}


def plain_shapes(geometry: Geometry) -> tuple[str, ...]:
    """Shapes that differ in size or compute, smallest first."""
    plain = [shape for shape in geometry.shapes.values() if "+" not in shape.name and "-" not in shape.name]
    return tuple(shape.name for shape in sorted(plain, key=lambda shape: (shape.size, shape.counters["compute"])))


def _unmovable(taken: Sequence[Taken]) -> tuple[Taken, ...]:
    return tuple(part for part in taken if len(part) == 2)


def is_whole(geometry: Geometry, shape: str) -> bool:
    """Whether a shape takes the whole GPU."""
    return shape == WHOLE or geometry.shapes[shape].size == geometry.slots
