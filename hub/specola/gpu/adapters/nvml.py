"""The GPUs of this machine: whole ones, or MIG slices that are there already or are made on demand.

With `create: false` nothing of the hardware is changed: the slices that the administrator made, and GPUs without MIG
mode as wholes, are handed out, each to one lease. With `create: true` slices are made and destroyed; what this pool has
not made itself is somebody else's and left alone. A slice is recognised by its profile id, size and place, never by
its name, which drivers change.

The hardware keeps no tags, so they lie in a file beside: written before a slice is made, removed after it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from specola.core.files import read_regular, replace_file
from specola.gpu.adapters.nvml_library import Device, Found, Library
from specola.gpu.adapters.slices import lay_out, refusal, visible
from specola.gpu.geometry import WHOLE, GpuModel, Shape
from specola.gpu.model import ActuatorError, Card, Granularity, Instance, NvmlPool, Sample
from specola.gpu.state import Slot

ASSUMED_LATENCY = 2.0
"""seconds to make a slice, until this process has made one: nobody has published a figure that could be trusted"""
GIB_IN_MIB = 1024

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Piece:
    """A slice as the hardware has it; without `uuid` it was left half made."""

    uuid: str
    shape: str
    start: int
    size: int
    instance: int | None = None
    handle: Any = None


class NvmlActuator:
    """The GPUs of one model of this machine, or those of them that `devices` names."""

    kind = "nvml"
    simulated = False
    controls_placement = True

    def __init__(
        self, name: str, pool: NvmlPool, model: GpuModel, directory: Path, *, library: Library | None = None
    ) -> None:
        self.name = name
        self.granularity: Granularity = "instance" if pool.create else "none"
        self._pool = pool
        self._model = model
        self._library = library or Library()
        self._file = directory / "tags.json"
        self._shapes = {one.profile_id: one for name, one in model.geometry.shapes.items() if name in model.profiles}
        self._readings: dict[str, Any] = {}
        self._took: deque[float] = deque(maxlen=9)
        # one thread: what is given up on goes on to its end before anything else begins
        self._thread = ThreadPoolExecutor(1, f"nvml-{name}")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def latency(self) -> float:
        """Seconds that making a slice took lately, or is assumed to take."""
        if not self._pool.create:
            return 0.0
        return median(self._took) if self._took else ASSUMED_LATENCY

    def environment(self, instance: Instance) -> Mapping[str, str]:
        """Variables that show a process this slice. A convention: the device files of a machine are open to all."""
        return visible(instance.uuid)

    async def cards(self) -> Sequence[Card]:
        """The GPUs of the pool; one that is named and does not answer is not healthy."""
        return await self._threaded(self._cards)

    async def make(self, slot: Slot, shape: str, tag: str) -> Instance:
        """The slice at this place; asked again with the same tag, the same one."""
        return await self._threaded(lambda: self._make(slot, shape, tag))

    async def destroy(self, instance: Instance) -> None:
        """Free the slot; one that is gone, or is another lease's by now, is left."""
        await self._threaded(lambda: self._destroy(instance))

    async def sample(self, instance: Instance) -> Sample:
        """What it does, as far as this driver and this account can tell."""
        return await self._threaded(lambda: self._sample(instance))

    async def names(self) -> Mapping[str, str]:
        """What this driver calls each shape."""
        return await self._threaded(self._names)

    async def _threaded(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ---- looking

    def _devices(self) -> list[Device]:
        found = self._library.devices()
        if self._pool.devices:
            return [device for device in found if device.uuid in self._pool.devices]
        return [device for device in found if self._is_ours(device)]

    def _is_ours(self, device: Device) -> bool:
        return device.pci_id in self._model.pci_ids or device.name in self._model.product_names

    def _device(self, gpu: str) -> Device:
        for device in self._devices():
            if device.uuid == gpu:
                return device
        raise ActuatorError(f"the pool {self.name} has no GPU {gpu} that answers")

    def _cards(self) -> list[Card]:
        tags, devices = self._tags(), self._devices()
        missing = [uuid for uuid in self._pool.devices if uuid not in {device.uuid for device in devices}]
        lost = [
            Card(uuid, -1, self._model.name, mig=False, healthy=False, reason="it does not answer") for uuid in missing
        ]
        return [self._card(device, tags) for device in devices] + lost

    def _card(self, device: Device, tags: Mapping[str, str]) -> Card:
        name = self._model.name
        if not self._is_ours(device):
            why = f"it is a {device.name} ({device.pci_id}), not a {name}"
            return Card(device.uuid, device.index, name, mig=False, healthy=False, reason=why)
        try:
            mig, _ = self._library.mig_mode(device)
            pieces, foreign = self._offered(device, tags, mig=mig)
        except ActuatorError as error:
            return Card(device.uuid, device.index, name, mig=False, healthy=False, reason=str(error))
        instances = tuple(self._instance(device, piece, tags) for piece in pieces)
        return Card(device.uuid, device.index, name, mig, instances, foreign=tuple(foreign))

    def _offered(
        self, device: Device, tags: Mapping[str, str], *, mig: bool
    ) -> tuple[list[_Piece], list[tuple[int, int]]]:
        """Slices of this pool, and (start, size) of what others have made or use."""
        pieces, foreign = self._pieces(device, mig=mig)
        ours = []
        for piece in pieces:
            free = _key(device.uuid, piece) not in tags
            used = free and self._used(piece)
            if not free or not (used or self._pool.create):
                ours.append(piece)
            elif used or piece.shape != WHOLE:
                foreign.append((piece.start, piece.size))
        return ours, foreign

    def _instance(self, device: Device, piece: _Piece, tags: Mapping[str, str]) -> Instance:
        slot = Slot(device.uuid, piece.start, piece.size)
        return Instance(piece.uuid, piece.shape, slot, tags.get(_key(device.uuid, piece)))

    def _used(self, piece: _Piece) -> bool:
        return piece.handle is not None and self._library.processes(piece.handle) > 0

    def _pieces(self, device: Device, *, mig: bool) -> tuple[list[_Piece], list[tuple[int, int]]]:
        """Slices that we know how to name, and (start, size) of all others."""
        if not mig:
            return [_Piece(device.uuid, WHOLE, 0, self._model.geometry.slots, None, device.handle)], []
        found = self._library.instances(device, frozenset(self._shapes))
        if any(one.profile_id is None for one in found):
            return list(self._guessed(found)), []
        several = Counter(one.instance for one in found)
        pieces, foreign = [], []
        for one in found:
            shape = self._shapes.get(one.profile_id or 0)
            start, size = one.start or 0, one.size or 0
            if shape is None or shape.size != size or several[one.instance] > 1:
                foreign.append((start, size))
            else:
                pieces.append(_Piece(one.uuid, shape.name, start, size, one.instance, one.mig))
        return pieces, foreign

    def _guessed(self, found: Sequence[Found]) -> Iterator[_Piece]:
        """Slices by their compute slices and memory; their places, which this account may not ask for, are nominal."""
        shapes = [self._likeliest(one) for one in found]
        places = lay_out(self._model, shapes)
        if places is None:
            raise ActuatorError("its slices are not known to this model, and this account may not ask what they are")
        left = list(places)
        for one, shape in zip(found, shapes, strict=True):
            place = next(place for place in left if place[0] == shape)
            left.remove(place)
            yield _Piece(one.uuid, shape, place[1], self._model.geometry.size(shape), one.instance, one.mig)

    def _likeliest(self, one: Found) -> str:
        alike = [
            profile
            for shape, profile in self._model.profiles.items()
            if self._model.geometry.shapes[shape].counters.get("compute") == one.compute
        ]
        if not alike:
            raise ActuatorError(f"{self._model.name} has no slice with {one.compute} compute slices")
        # a shape with media engines looks the same from here: the plain one is what sites hand out
        return min(alike, key=lambda profile: (abs(profile.gib - one.mib / GIB_IN_MIB), len(profile.shape))).shape

    def _names(self) -> dict[str, str]:
        names = {shape: profile.name for shape, profile in self._model.profiles.items()}
        for device in self._devices()[:1]:
            for profile in self._library.profiles(device).values():
                if profile.id in self._shapes:
                    names[self._shapes[profile.id].name] = profile.name
        return names

    # ---- making and destroying

    def _make(self, slot: Slot, shape: str, tag: str) -> Instance:
        device, tags = self._device(slot.gpu), self._tags()
        mig, _ = self._library.mig_mode(device)
        pieces, foreign = self._pieces(device, mig=mig)
        known = next((piece for piece in pieces if tags.get(_key(device.uuid, piece)) == tag), None)
        if known is not None and (known.shape, known.start) != (shape, slot.start):
            raise ActuatorError(f"{tag} has a slice {known.shape} on this GPU already")
        if known is not None:
            if not known.uuid and known.instance is not None:
                self._library.complete(device, known.instance)
            return self._made(device, shape, slot.start)
        if not self._pool.create:
            self._claim(device, pieces, shape, slot.start)
        held = [piece for piece in pieces if piece.shape != WHOLE or _key(device.uuid, piece) in tags]
        for piece in pieces:
            if piece.shape == WHOLE and self._used(piece):
                raise ActuatorError(f"a process uses GPU {device.index}")
        begun = time.monotonic()
        if self._pool.create:
            self._room(device, held, foreign, shape, slot.start)
        self._tag(device, shape, slot.start, tag)
        if self._pool.create:
            self._create(device, mig=mig, shape=shape, start=slot.start)
            self._took.append(time.monotonic() - begun)
        return self._made(device, shape, slot.start)

    def _claim(self, device: Device, pieces: Sequence[_Piece], shape: str, start: int) -> None:
        for piece in pieces:
            if (piece.shape, piece.start) == (shape, start):
                if _key(device.uuid, piece) in self._tags():
                    raise ActuatorError(f"the slice {shape} at {start} is held")
                if self._used(piece):
                    raise ActuatorError(f"a process uses the slice {shape} at {start}")
                return
        raise ActuatorError(f"GPU {device.index} has no slice {shape} at {start}, and this pool makes none")

    def _room(
        self, device: Device, held: Sequence[_Piece], foreign: Sequence[tuple[int, int]], shape: str, start: int
    ) -> None:
        why = refusal(self._model, [(piece.shape, piece.start) for piece in held], foreign, shape, start)
        if why:
            raise ActuatorError(f"GPU {device.index}: {why}")

    def _create(self, device: Device, *, mig: bool, shape: str, start: int) -> None:
        try:
            if mig == (shape == WHOLE):
                self._library.switch_mig(device, on=shape != WHOLE)
            if shape == WHOLE:
                return
            wanted = self._model.geometry.shapes[shape]
            self._agree(device, wanted)
            self._library.create(device, wanted.profile_id, start, wanted.size)
        except ActuatorError:
            with contextlib.suppress(ActuatorError):
                mig, _ = self._library.mig_mode(device)
                pieces, _ = self._pieces(device, mig=mig)
                if not any((piece.shape, piece.start) == (shape, start) for piece in pieces if piece.shape != WHOLE):
                    self._tag(device, shape, start, None)
            raise

    def _agree(self, device: Device, wanted: Shape) -> None:
        offered = self._library.profiles(device).get(wanted.profile_id)
        if offered is None or offered.compute != wanted.counters.get("compute", offered.compute):
            raise ActuatorError(f"this driver's profile {wanted.profile_id} is not {wanted.name}")

    def _made(self, device: Device, shape: str, start: int) -> Instance:
        mig, _ = self._library.mig_mode(device)
        for piece in self._pieces(device, mig=mig)[0]:
            if (piece.shape, piece.start) == (shape, start) and piece.uuid:
                return self._instance(device, piece, self._tags())
        raise ActuatorError(f"the slice {shape} at {start} of GPU {device.index} was made and is not there")

    def _destroy(self, instance: Instance) -> None:
        place = f"{instance.slot.gpu}/{instance.shape}/{instance.slot.start}"
        tag = self._tags().get(place)
        if tag is None or instance.tag not in {None, tag}:
            return
        device = self._device(instance.slot.gpu)
        mig, _ = self._library.mig_mode(device)
        for piece in self._pieces(device, mig=mig)[0]:
            if _key(device.uuid, piece) == place:
                if self._used(piece):
                    raise ActuatorError(f"a process still uses {piece.uuid}")
                if self._pool.create and piece.instance is not None:
                    self._library.destroy(device, piece.instance)
        self._forget(instance.uuid)
        self._tag(device, instance.shape, instance.slot.start, None)

    # ---- what it does

    def _sample(self, instance: Instance) -> Sample:
        now = time.time()
        try:
            device = self._device(instance.slot.gpu)
            mig, _ = self._library.mig_mode(device)
            piece = next(one for one in self._pieces(device, mig=mig)[0] if one.uuid == instance.uuid)
            engine = self._engine(device, piece)
            return Sample(now, engine, self._library.memory(piece.handle), self._library.processes(piece.handle))
        except (ActuatorError, StopIteration):
            return Sample(now)

    def _engine(self, device: Device, piece: _Piece) -> float | None:
        after = self._library.gpm_sample(device, piece.instance)
        if after is None:
            return self._library.utilisation(device) if piece.shape == WHOLE else None
        before, self._readings[piece.uuid] = self._readings.get(piece.uuid), after
        if before is None:
            return None
        share = self._library.activity(before, after)
        self._library.gpm_free(before)
        return share

    def _forget(self, uuid: str) -> None:
        reading = self._readings.pop(uuid, None)
        if reading is not None:
            self._library.gpm_free(reading)

    # ---- tags

    def _tags(self) -> dict[str, str]:
        with contextlib.suppress(FileNotFoundError):
            return dict(json.loads(read_regular(self._file)))
        return {}

    def _tag(self, device: Device, shape: str, start: int, tag: str | None) -> None:
        tags, place = self._tags(), f"{device.uuid}/{shape}/{start}"
        tags.pop(place, None)
        if tag is not None:
            tags[place] = tag
        replace_file(self._file, json.dumps(tags))


def _key(gpu: str, piece: _Piece) -> str:
    return f"{gpu}/{piece.shape}/{piece.start}"
