"""Sizes as people say them: "20 GB" is the slice that is called 20gb, whatever a program sees of it.

A size fits a profile when it is not above the memory that the profile's name says, or above what a program sees, by
more than five percent: that is the room between GB and GiB, and what the driver keeps for itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from specola.gpu.geometry import WHOLE, GpuModel, Profile

SLACK = 1.05
TWICE = 2.0

_NAMED = re.compile(r"^\d+g\.(\d+)gb$")


class Sized(Protocol):
    """A way to get a slice, as the API's Choice."""

    @property
    def profile(self) -> str:
        """NVIDIA's name."""

    @property
    def slots(self) -> float:
        """Eighths of a GPU."""

    @property
    def free(self) -> int:
        """How many could start now."""


def named(profile: Profile) -> float:
    """GB in the name of a profile; what a program sees where the name says something else besides."""
    found = _NAMED.match(profile.name)
    return float(found[1]) if found else profile.gib


def holds(profile: Profile, gib: float) -> bool:
    """Whether one who asks for so much is served by this profile."""
    return gib <= SLACK * max(named(profile), profile.gib)


def shapes_for(gib: float, model: GpuModel) -> tuple[str, ...]:
    """Every shape that is large enough, the smallest first; of two with as many slots, the one with less compute.

    Shapes with media or graphics engines have to be asked for by name and are not among them.
    """
    geometry = model.geometry
    plain = [
        shape
        for shape, profile in model.profiles.items()
        if profile.name.endswith("gb") and shape in geometry.shapes and holds(profile, gib)
    ]
    plain.sort(key=lambda shape: (geometry.size(shape), geometry.shapes[shape].counters.get("compute", 0)))
    return (*plain, WHOLE) if gib <= SLACK * model.gib else tuple(plain)


def next_up(best: Sized, larger: Sequence[Sized]) -> str:
    """What the next size up costs, in a sentence; empty where it costs nothing worth saying."""
    above = [one for one in larger if one.slots > best.slots]
    if not above:
        return ""
    next_one = min(above, key=lambda one: one.slots)
    costs = next_one.slots / best.slots >= TWICE
    waits = best.free > 0 and next_one.free == 0
    if not costs and not waits:
        return ""
    takes = f"takes {next_one.slots / best.slots:.2g} times as much of a GPU" if costs else ""
    return f"The next size up, {next_one.profile}, {' and '.join(filter(None, (takes, 'waits longer' * waits)))}."
