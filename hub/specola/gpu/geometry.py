"""The placement geometry of GPU models.

One *slot* is one unit of the placement axis that `nvidia-smi mig -lgipp` prints (`{starts}:size`). An instance
occupies `[start, start + size)`; two instances on one GPU do not overlap, and the sum of every counter stays within
the capacity (the model of KEP-4815 and of the NVIDIA DRA driver). Names and sizes in GiB move with the driver: match
on shape and GPU-instance profile id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WHOLE = "whole"
"""The shape of a GPU that is not partitioned."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of slice: `size` slots from one of `starts`, with so much of every counted engine."""

    name: str
    size: int
    starts: tuple[int, ...]
    profile_id: int
    counters: Mapping[str, int] = field(default_factory=dict)
    """`compute`, and media engines where they are counted"""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The slots of a GPU and the shapes that lie on them."""

    name: str
    slots: int
    shapes: Mapping[str, Shape]
    capacity: Mapping[str, int]

    def size(self, shape: str) -> int:
        """Slots of a shape; the whole GPU has all of them."""
        return self.slots if shape == WHOLE else self.shapes[shape].size

    def eighths(self, shape: str) -> float:
        """Size in eighths of a GPU: the unit of limits and records."""
        return 8 * self.size(shape) / self.slots


@dataclass(frozen=True, slots=True)
class Profile:
    """A shape as NVIDIA names it on one model, as in `3g.20gb`."""

    name: str
    shape: str
    maximum: int
    """documented number of instances on one GPU"""
    gib: float
    """memory that a program sees; derived from the name where nobody published a reading"""
    sms: int | None = None
    measured: bool = True
    """whether `gib` was published as read from hardware"""


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One GPU model: its geometry, its profiles by shape, and how to recognise it."""

    name: str
    geometry: Geometry
    profiles: Mapping[str, Profile]
    """by shape"""
    gib: float
    """the whole GPU"""
    pci_ids: tuple[str, ...] = ()
    product_names: tuple[str, ...] = ()
    resetless_mig_toggle: bool = False
    evidence: Mapping[str, str] = field(default_factory=dict)
