"""What the types cannot say about `gpu:`: whether the slices exist on that model, and fit on one card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specola.facility.complaints import unknown
from specola.facility.document import Complaint, Document, Place
from specola.facility.model import Facility
from specola.gpu.adapters.slices import lay_out
from specola.gpu.geometry import WHOLE, GpuModel


def misfits(facility: Facility, document: Document) -> Iterator[Complaint]:
    """Every complaint about slices that no card can have, and about limits that contradict each other."""
    for name, pool in facility.gpu.pools.items():
        # the table of models is read for those who have one
        from specola.gpu.adapters.profiles import models

        for key in ("layout", "shapes"):
            for place, text in _slices(models()[pool.model], key, getattr(pool, key, None)):
                yield _at(document, ("gpu", "pools", name, *place), text)
    for name, group in facility.groups.items():
        most = group.gpu.max_slots
        if most is not None and group.gpu.guaranteed_slots > most:
            yield _at(document, ("groups", name, "gpu", "guaranteed_slots"), "is more than max_slots")


def _slices(model: GpuModel, key: str, shapes: Sequence[str] | None) -> Iterator[tuple[Place, str]]:
    if shapes is None:
        return
    allowed = [*model.profiles, WHOLE]
    wrong = [number for number, shape in enumerate(shapes) if shape not in allowed]
    named = {profile.name: profile.shape for profile in model.profiles.values()}
    for number in wrong:
        text = unknown("shape", shapes[number], allowed, quote=True)
        if shapes[number] in named:
            text = f"is a name that depends on the driver; write the shape `{named[shapes[number]]}`"
        yield (key, number), f"{text} (of one {model.name})"
    if wrong or key != "layout":
        return
    slots = sum(model.geometry.size(shape) for shape in shapes)
    if not shapes:
        yield (key,), "is empty (leave it out to have slices made on demand)"
    elif slots > model.geometry.slots:
        yield (key,), f"does not fit: one {model.name} has {model.geometry.slots} slots, and these slices take {slots}"
    elif lay_out(model, shapes) is None:
        yield (key,), f"does not fit: these slices cannot lie side by side on one {model.name}"


def _at(document: Document, place: Place, text: str) -> Complaint:
    return Complaint(document.line(place), place, text)
