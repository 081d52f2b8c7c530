"""The rules that hardware holds slices to: what may lie beside what on one GPU, and where a fixed layout lies.

The planner decides with its own closed forms; this is the other side, which refuses what a real GPU would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specola.gpu.geometry import WHOLE, GpuModel

Piece = tuple[str, int]
"""(shape, start) of a slice on one GPU"""


def refusal(
    model: GpuModel, present: Sequence[Piece], foreign: Iterable[tuple[int, int]], shape: str, start: int
) -> str:
    """Why a slice cannot be made beside those that are there; '' when it can."""
    if shape == WHOLE:
        return "" if start == 0 and not present and not tuple(foreign) else "the GPU is not empty"
    if shape not in model.profiles or shape not in model.geometry.shapes:
        return f"{model.name} has no slice of the shape {shape}"
    known = model.geometry.shapes[shape]
    if start not in known.starts:
        return f"a slice {shape} begins at {', '.join(map(str, known.starts))}, not at {start}"
    wanted = range(start, start + known.size)
    taken = [(first, model.geometry.size(name)) for name, first in present] + list(foreign)
    if any(first < wanted.stop and wanted.start < first + size for first, size in taken):
        return f"slots {wanted.start} to {wanted.stop - 1} are not all free"
    return _engines(model, [name for name, _ in present], shape)


def _engines(model: GpuModel, present: Sequence[str], shape: str) -> str:
    for engine, capacity in model.geometry.capacity.items():
        if sum(model.geometry.shapes[name].counters.get(engine, 0) for name in (*present, shape)) > capacity:
            return f"no {engine} engine is left for a slice {shape}"
    return ""


def lay_out(model: GpuModel, shapes: Sequence[str]) -> tuple[Piece, ...] | None:
    """Places for the slices of a layout on an empty GPU; None where they do not fit."""
    if any(shape != WHOLE and shape not in model.geometry.shapes for shape in shapes):
        return None
    return _lay(model, sorted(shapes, key=lambda shape: (-model.geometry.size(shape), shape)), ())


def _lay(model: GpuModel, left: Sequence[str], done: tuple[Piece, ...]) -> tuple[Piece, ...] | None:
    if not left:
        return done
    shape = left[0]
    # from the top: the low half stays for those that fit nowhere else, as the driver does it
    for start in (0,) if shape == WHOLE else reversed(model.geometry.shapes[shape].starts):
        if not refusal(model, done, (), shape, start):
            found = _lay(model, left[1:], (*done, (shape, start)))
            if found is not None:
                return found
    return None


def visible(uuid: str) -> dict[str, str]:
    """Variables that show a process one GPU or slice and no other; for a server without one, `hidden`."""
    return {"CUDA_VISIBLE_DEVICES": uuid, "NVIDIA_VISIBLE_DEVICES": uuid}


def hidden() -> dict[str, str]:
    """Variables that show a process no GPU at all: an empty list for CUDA, `void` for the container runtime."""
    return {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
