"""Invented GPUs with the rules of real ones; labelled `simulated` wherever they show.

A card is a file, so that slices survive this process as hardware's survive it. What hardware refuses is refused:
slices that overlap or pass a counter, unknown shapes, the end of a slice that a process uses, and on Ampere MIG mode
while anything holds the GPU, since entering it there takes a reset.

A process uses a slice while it holds a shared lock (`flock`) on the slice's *door*, the file that its environment
names in `SPECOLA_SIMULATED_GPU`; there it may write what it does, as in `{"engine": 0.9, "memory": 2147483648}`. The
system lets go of the lock when the process dies, as a driver does of a CUDA context. Doors lie outside the state
directory, which is closed to people: whoever knows a door's name may use it, and nobody can list them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from specola.core.files import open_regular, read_regular, replace_file
from specola.gpu.adapters.simulated_control import Control, Fault, read_control
from specola.gpu.adapters.slices import lay_out, refusal, visible
from specola.gpu.geometry import WHOLE, GpuModel
from specola.gpu.model import ActuatorError, Card, Granularity, Instance, Sample, SimulatedPool
from specola.gpu.state import Slot

VARIABLE = "SPECOLA_SIMULATED_GPU"
GIB = 2**30
LONGEST_WORD = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Slice:
    """A slice as its card's file has it; `door` is the name of the file that its processes hold."""

    uuid: str
    shape: str
    start: int
    door: str
    tag: str | None = None
    made: float = 0.0


@dataclass(frozen=True)
class _Card:
    """A card's file."""

    model: str
    layout: list[str] | None
    mig: bool = False
    resets: int = 0
    slices: list[_Slice] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> _Card:
        content = json.loads(text)
        return cls(**{**content, "slices": [_Slice(**one) for one in content["slices"]]})


class SimulatedActuator:
    """The cards of one pool, kept in files under `directory`."""

    kind = "simulated"
    simulated = True
    controls_placement = True

    def __init__(self, name: str, pool: SimulatedPool, model: GpuModel, directory: Path, *, facility: str = "") -> None:
        self.name = name
        self._pool = pool
        self._model = model
        self._directory = directory
        self._layout = None if pool.layout is None else list(pool.layout)
        self._fixed = () if pool.layout is None else lay_out(model, pool.layout)
        if self._fixed is None:
            raise ActuatorError(f"the slices {', '.join(pool.layout or ())} do not fit on one {model.name}")
        self.granularity: Granularity = "instance" if pool.layout is None else "none"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._seed, self._doors = self._settle(f"specola-gpu-{facility}-" if facility else "specola-gpu-")
        self._ids = {self._uuid(index): index for index in range(pool.cards)}

    @property
    def latency(self) -> float:
        """Seconds that making a slice takes here, as the control file says; nothing is known of real ones."""
        return self._control().latency

    # ---- what there is

    async def cards(self) -> Sequence[Card]:
        """Every card with its slices."""
        control = self._control()
        return [self._shown(index, self._read(index), control) for index in self._ids.values()]

    async def names(self) -> Mapping[str, str]:
        """What this driver calls each shape; drivers differ, which is why nothing is found by name."""
        return {shape: profile.name for shape, profile in self._model.profiles.items()} | dict(self._control().names)

    async def sample(self, instance: Instance) -> Sample:
        """What its processes say they do; without any, what the script says, or nothing at all."""
        now, control = time.time(), self._control()
        found = self._find(instance)
        if found is None:
            return Sample(now)
        said = self._said(found) if self._used(found) else None
        engine, memory = said or control.scripted(now - found.made) or (0.0, 0)
        most = int(self._gib(found.shape) * GIB)
        processes = int(said is not None or engine > 0 or memory > 0)
        return Sample(now, None if control.blind else min(1.0, engine), min(most, memory), processes)

    def environment(self, instance: Instance) -> Mapping[str, str]:
        """Variables that show a process this slice, and the door where it says what it does."""
        found = self._find(instance)
        door = {} if found is None else {VARIABLE: str(self._open_door(found.door))}
        return visible(instance.uuid) | door

    # ---- making and destroying

    async def make(self, slot: Slot, shape: str, tag: str) -> Instance:
        """The slice at this place; asked again with the same tag, the same one."""
        control = self._control()
        await control.delay(control.refuse.make)
        with self._locked():
            index = self._index(slot.gpu)
            card, fault = self._read(index), control.fault(index)
            known = next((one for one in card.slices if one.tag == tag), None)
            if known is not None and (known.shape, known.start) != (shape, slot.start):
                raise ActuatorError(f"{tag} has a slice {known.shape} on this GPU already")
            if known is None:
                if not fault.healthy:
                    raise ActuatorError(f"GPU {index} does not answer: {fault.reason}")
                card, known = self._claimed(card, slot, shape, tag) or self._added(
                    index, card, fault, slot=slot, shape=shape, tag=tag
                )
                self._write(index, card)
            return self._instance(index, known)

    async def destroy(self, instance: Instance) -> None:
        """Free the slot; one that is gone, or is somebody else's by now, is left."""
        control = self._control()
        await control.delay(control.refuse.destroy)
        with self._locked():
            index = self._index(instance.slot.gpu)
            card = self._read(index)
            found = next((one for one in card.slices if one.uuid == instance.uuid), None)
            if found is None or instance.tag not in {None, found.tag}:
                return
            if self._used(found):
                raise ActuatorError(f"a process still uses {found.uuid}")
            (self._doors / found.door).unlink(missing_ok=True)
            freed = [] if card.layout is None else [replace(found, tag=None)]
            self._write(index, replace(card, slices=[*(one for one in card.slices if one is not found), *freed]))

    def _claimed(self, card: _Card, slot: Slot, shape: str, tag: str) -> tuple[_Card, _Slice] | None:
        """A slice of a fixed layout for its next holder; None where slices are made on demand."""
        if card.layout != self._layout:
            raise ActuatorError("this GPU has slices of its former layout until they are given back")
        if card.layout is None:
            return None
        for one in card.slices:
            if (one.shape, one.start) == (shape, slot.start):
                if one.tag is not None:
                    raise ActuatorError(f"the slice {shape} at {slot.start} is held")
                # a new door each time: whoever knew the old one is not to speak for the next holder
                claimed = replace(one, tag=tag, made=time.time(), door=_new_door())
                return replace(card, slices=[claimed if other is one else other for other in card.slices]), claimed
        raise ActuatorError(f"the layout of this GPU has no slice {shape} at {slot.start}, and it cannot be changed")

    def _added(
        self, index: int, card: _Card, fault: Fault, *, slot: Slot, shape: str, tag: str
    ) -> tuple[_Card, _Slice]:
        present = [(one.shape, one.start) for one in card.slices]
        why = refusal(self._model, present, fault.foreign, shape, slot.start)
        if not why and slot.size != self._model.geometry.size(shape):
            why = f"a slice {shape} has {self._model.geometry.size(shape)} slots, not {slot.size}"
        if why:
            raise ActuatorError(f"GPU {index}: {why}")
        card = self._switched(index, card, fault, mig=shape != WHOLE)
        made = _Slice(self._uuid(index, shape, slot.start), shape, slot.start, _new_door(), tag, time.time())
        return replace(card, slices=[*card.slices, made]), made

    def _switched(self, index: int, card: _Card, fault: Fault, *, mig: bool) -> _Card:
        """The card in or out of MIG mode; on Ampere that is a reset, which whatever holds the GPU prevents."""
        if card.mig == mig:
            return card
        if self._model.resetless_mig_toggle:
            return replace(card, mig=mig)
        if fault.held:
            raise ActuatorError(f"GPU {index} must be reset for MIG mode, and {fault.held} holds it")
        return replace(card, mig=mig, resets=card.resets + 1)

    # ---- files

    def _settle(self, prefix: str) -> tuple[str, Path]:
        """The seed of all UUIDs, and the directory of doors: made once, found again by every later process."""
        path = self._directory / "pool.json"
        with self._locked():
            known: dict[str, Any] = {}
            with contextlib.suppress(FileNotFoundError, ValueError):
                known = json.loads(path.read_text())
            doors = Path(known.get("doors", ""))
            if not known or not doors.is_dir() or doors.is_symlink() or doors.lstat().st_uid != os.geteuid():
                doors = Path(tempfile.mkdtemp(prefix=prefix))
                doors.chmod(0o711)
                known = {"seed": known.get("seed") or uuid.uuid4().hex, "doors": str(doors)}
                replace_file(path, json.dumps(known))
        return known["seed"], doors

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep a second process from changing a card meanwhile."""
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _control(self) -> Control:
        return read_control(self._directory)

    def _read(self, index: int) -> _Card:
        """A card as its file has it; a blank one where it has none, another model, or an unused other layout."""
        try:
            card = _Card.read((self._directory / f"card-{index}.json").read_text())
        except FileNotFoundError:
            return self._blank(index)
        except (ValueError, TypeError, KeyError):
            log.warning("the file of simulated GPU %s of %s is damaged: its slices are gone", index, self.name)
            return self._blank(index)
        idle = not any(one.tag for one in card.slices)
        if card.model != self._model.name or (card.layout != self._layout and idle):
            return self._blank(index)
        return card

    def _blank(self, index: int) -> _Card:
        slices = [_Slice(self._uuid(index, shape, start), shape, start, "nobody") for shape, start in self._fixed or ()]
        mig = any(one.shape != WHOLE for one in slices)
        return _Card(self._model.name, self._layout, mig, slices=slices)

    def _write(self, index: int, card: _Card) -> None:
        replace_file(self._directory / f"card-{index}.json", json.dumps(asdict(card)))

    # ---- doors

    def _open_door(self, name: str) -> Path:
        path = self._doors / name
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # open to whoever knows its name: the directory cannot be listed
            os.fchmod(descriptor, 0o666)
            os.close(descriptor)
        return path

    def _used(self, one: _Slice) -> bool:
        """Whether a process that lives holds the door."""
        try:
            descriptor = open_regular(self._doors / one.door)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _said(self, one: _Slice) -> tuple[float, int]:
        """What the processes of a slice say: share of the engine, bytes; people write it, so it may be anything."""
        try:
            word = json.loads(read_regular(self._doors / one.door, LONGEST_WORD))
            return max(0.0, float(word.get("engine", 0.0))), max(0, int(word.get("memory", 0)))
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return 0.0, 0

    # ---- words

    def _uuid(self, index: int, *place: object) -> str:
        kind = "MIG" if place and place[0] != WHOLE else "GPU"
        whole = place if kind == "MIG" else ()
        return f"{kind}-{uuid.uuid5(uuid.UUID(self._seed), '/'.join(map(str, (index, *whole))))}"

    def _index(self, gpu: str) -> int:
        if gpu not in self._ids:
            raise ActuatorError(f"the pool {self.name} has no GPU {gpu}")
        return self._ids[gpu]

    def _find(self, instance: Instance) -> _Slice | None:
        slices = self._read(self._index(instance.slot.gpu)).slices
        return next((one for one in slices if one.uuid == instance.uuid), None)

    def _gib(self, shape: str) -> float:
        return self._model.gib if shape == WHOLE else self._model.profiles[shape].gib

    def _instance(self, index: int, one: _Slice) -> Instance:
        slot = Slot(self._uuid(index), one.start, self._model.geometry.size(one.shape))
        return Instance(one.uuid, one.shape, slot, one.tag)

    def _shown(self, index: int, card: _Card, control: Control) -> Card:
        fault = control.fault(index)
        return Card(
            id=self._uuid(index),
            index=index,
            model=self._model.name,
            mig=card.mig,
            instances=tuple(self._instance(index, one) for one in card.slices),
            healthy=fault.healthy,
            reason="" if fault.healthy else fault.reason,
            foreign=fault.foreign,
        )


def _new_door() -> str:
    return secrets.token_urlsafe(24)
