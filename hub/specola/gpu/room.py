"""Free room of a pool, counted from what the planner is told: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from specola.gpu.geometry import Geometry
from specola.gpu.packing import Taken, fragmentation, most
from specola.gpu.state import GpuState, PoolState, State


def taken(state: State, pool: str) -> dict[str, list[Taken]]:
    """What lies on each GPU of a pool: leases with their shape, and what others have."""
    found: dict[str, list[Taken]] = {gpu.id: list(gpu.foreign) for gpu in state.pools[pool].gpus}
    for holding in state.holdings:
        slot = holding.slot
        if holding.pool == pool and slot is not None:
            found.setdefault(slot.gpu, []).append((slot.start, slot.size, holding.shape))
    return found


def free(state: State, pool: str, shape: str) -> int:
    """How many of a shape could start now."""
    known, lies = state.pools[pool], taken(state, pool)
    usable = [gpu for gpu in known.gpus if not gpu.drained]
    loose = [lies[gpu.id] for gpu in usable if gpu.fixed is None]
    count = most(known.geometry, loose, shape) if loose else 0
    return count + sum(_open_slices(known.geometry, gpu, lies[gpu.id], shape) for gpu in usable)


def total(pool: PoolState, shape: str) -> int:
    """How many of a shape the pool holds when nothing else is on it; drained GPUs are left out."""
    usable = [gpu for gpu in pool.gpus if not gpu.drained]
    loose: list[Iterable[Taken]] = [() for gpu in usable if gpu.fixed is None]
    count = most(pool.geometry, loose, shape) if loose else 0
    return count + sum(name == shape for gpu in usable for name, _ in gpu.fixed or ())


def _open_slices(geometry: Geometry, gpu: GpuState, lies: Sequence[Taken], shape: str) -> int:
    size = geometry.size(shape)
    return sum(
        name == shape and not any(part[0] < start + size and start < part[0] + part[1] for part in lies)
        for name, start in gpu.fixed or ()
    )


def scattered(state: State, pool: str) -> Mapping[str, tuple[int, int]]:
    """By shape: how many fit now, and how many would if the free room of the pool lay together."""
    known, lies = state.pools[pool], taken(state, pool)
    gpus = [lies[gpu.id] for gpu in known.gpus if not gpu.drained and gpu.fixed is None]
    return fragmentation(known.geometry, gpus) if gpus else {}
