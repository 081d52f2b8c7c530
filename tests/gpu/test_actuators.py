"""One contract for everything that makes slices: the simulated cards, NVML beneath a stand-in, NVML on hardware."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from specola.gpu.adapters.nvml import NvmlActuator
from specola.gpu.adapters.nvml_library import Library
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.simulated import VARIABLE, SimulatedActuator
from specola.gpu.adapters.slices import hidden, lay_out, refusal
from specola.gpu.geometry import WHOLE
from specola.gpu.model import Actuator, ActuatorError, Instance, NvmlPool, SimulatedPool
from specola.gpu.state import Slot

from gpu.fakenvml import FakeNvml, beneath

MODEL = "H100-80GB"
CARDS = 2


class Simulated:
    """Simulated cards, used as people's programs use them."""

    kind = "simulated"

    def __init__(self, directory: Path, model: str = MODEL) -> None:
        self.directory = directory
        self.model = models()[model]

    def actuator(self) -> Actuator:
        pool = SimulatedPool(actuator="simulated", model=self.model.name, cards=CARDS)
        return SimulatedActuator("p", pool, self.model, self.directory)

    @contextlib.contextmanager
    def using(self, actuator: Actuator, instance: Instance) -> Iterator[None]:
        with Path(actuator.environment(instance)[VARIABLE]).open("r+") as door:
            fcntl.flock(door, fcntl.LOCK_SH)
            door.write('{"engine": 0.75, "memory": 1048576}')
            door.flush()
            yield


class Nvml:
    """NVML with a stand-in for NVIDIA's library beneath it."""

    kind = "nvml"

    def __init__(self, directory: Path, model: str = MODEL) -> None:
        self.directory = directory
        self.model = models()[model]
        self.fake = FakeNvml(self.model, CARDS)
        for gpu in self.fake.gpus:
            gpu.mig = gpu.pending = True

    def actuator(self) -> Actuator:
        return NvmlActuator(
            "p", NvmlPool(actuator="nvml", model=self.model.name, create=True), self.model, self.directory
        )

    @contextlib.contextmanager
    def using(self, _actuator: Actuator, instance: Instance) -> Iterator[None]:
        gpu = next(gpu for gpu in self.fake.gpus if gpu.uuid == instance.slot.gpu)
        gi = next(gi for gi in gpu.gis if gi.start == instance.slot.start)
        gi.processes, gi.memory, gi.engine = [4711], 1048576, 0.75
        yield
        gi.processes, gi.memory, gi.engine = [], 0, 0.0


@pytest.fixture(params=[Simulated, Nvml], ids=lambda one: one.kind)
def rig(request, tmp_path) -> Iterator[Simulated | Nvml]:
    made = request.param(tmp_path / "pool")
    with beneath(getattr(made, "fake", None)):
        yield made


async def first(actuator: Actuator) -> str:
    return (await actuator.cards())[0].id


def on(gpu: str, rig, shape: str, start: int) -> Slot:
    return Slot(gpu, start, rig.model.geometry.size(shape))


class TestContract:
    async def test_it_says_what_it_is(self, rig):
        actuator = rig.actuator()
        assert (actuator.kind, actuator.simulated) == (rig.kind, rig.kind == "simulated")
        assert actuator.controls_placement
        assert actuator.granularity == "instance"
        assert actuator.latency >= 0

    async def test_cards_keep_their_names(self, rig):
        cards = await rig.actuator().cards()
        assert [card.id for card in cards] == [card.id for card in await rig.actuator().cards()]
        assert len({card.id for card in cards}) == CARDS
        assert all(card.id.startswith("GPU-") and card.healthy and card.model == MODEL for card in cards)

    async def test_a_slice_outlives_whoever_made_it(self, rig):
        gpu = await first(rig.actuator())
        made = await rig.actuator().make(on(gpu, rig, "3g", 4), "3g", "lease-1")
        assert made.uuid.startswith("MIG-")
        assert (made.shape, made.slot, made.tag) == ("3g", Slot(gpu, 4, 4), "lease-1")
        cards = await rig.actuator().cards()
        assert [card.instances for card in cards] == [(made,), ()]
        assert cards[0].mig

    async def test_asked_twice_it_is_one_slice(self, rig):
        actuator = rig.actuator()
        slot = on(await first(actuator), rig, "2g", 2)
        assert await actuator.make(slot, "2g", "lease-1") == await rig.actuator().make(slot, "2g", "lease-1")
        with pytest.raises(ActuatorError, match="already"):
            await actuator.make(replace(slot, start=0), "2g", "lease-1")

    async def test_what_does_not_fit_is_refused(self, rig):
        actuator = rig.actuator()
        gpu = await first(actuator)
        await actuator.make(on(gpu, rig, "4g", 0), "4g", "a")
        for shape, start, why in [
            ("2g", 2, "not all free"),
            ("3g", 2, "begins at"),
            ("5g", 0, "no slice of the shape"),
        ]:
            with pytest.raises(ActuatorError, match=why):
                await actuator.make(Slot(gpu, start, 2), shape, "b")
        with pytest.raises(ActuatorError, match="no GPU"):
            await actuator.make(Slot("GPU-none", 0, 1), "1g", "b")
        with pytest.raises(ActuatorError):
            await actuator.make(on(gpu, rig, WHOLE, 0), WHOLE, "b")
        assert len((await actuator.cards())[0].instances) == 1

    async def test_a_media_engine_is_given_once(self, rig):
        actuator = rig.actuator()
        gpu = await first(actuator)
        await actuator.make(on(gpu, rig, "1g+me", 0), "1g+me", "a")
        with pytest.raises(ActuatorError, match="media"):
            await actuator.make(on(gpu, rig, "1g+me", 1), "1g+me", "b")

    async def test_it_takes_exactly_what_the_rules_allow(self, rig):
        chance, actuator = random.Random(4), rig.actuator()
        gpu, held = await first(actuator), {}
        shapes = list(rig.model.profiles)
        for turn in range(150):
            if held and chance.random() < 0.4:
                await actuator.destroy(held.pop(chance.choice(list(held))))
                continue
            shape = chance.choice(shapes)
            start = chance.randrange(rig.model.geometry.slots)
            present = [(one.shape, one.slot.start) for one in held.values()]
            if refusal(rig.model, present, (), shape, start):
                with pytest.raises(ActuatorError):
                    await actuator.make(on(gpu, rig, shape, start), shape, f"lease-{turn}")
            else:
                held[turn] = await actuator.make(on(gpu, rig, shape, start), shape, f"lease-{turn}")
            assert set((await actuator.cards())[0].instances) == set(held.values())

    async def test_a_slice_that_a_process_uses_is_not_destroyed(self, rig):
        actuator = rig.actuator()
        made = await actuator.make(on(await first(actuator), rig, "1g", 3), "1g", "lease-1")
        with rig.using(actuator, made), pytest.raises(ActuatorError, match="process"):
            await actuator.destroy(made)
        assert len((await actuator.cards())[0].instances) == 1
        await actuator.destroy(made)
        await actuator.destroy(made)
        assert (await actuator.cards())[0].instances == ()

    async def test_an_old_holder_cannot_destroy_the_next_ones_slice(self, rig):
        actuator = rig.actuator()
        slot = on(await first(actuator), rig, "1g", 3)
        old = await actuator.make(slot, "1g", "lease-1")
        await actuator.destroy(old)
        new = await actuator.make(slot, "1g", "lease-2")
        await actuator.destroy(replace(old, uuid=new.uuid))
        assert (await actuator.cards())[0].instances == (new,)

    async def test_its_environment_shows_one_slice(self, rig):
        actuator = rig.actuator()
        gpu = await first(actuator)
        made = [await actuator.make(on(gpu, rig, "1g", start), "1g", f"lease-{start}") for start in range(3)]
        shown = [actuator.environment(one) for one in made]
        assert [one["CUDA_VISIBLE_DEVICES"] for one in shown] == [one.uuid for one in made]
        assert [one["NVIDIA_VISIBLE_DEVICES"] for one in shown] == [one.uuid for one in made]
        assert len({one.uuid for one in made}) == 3

    async def test_it_says_what_a_slice_does(self, rig):
        actuator = rig.actuator()
        made = await actuator.make(on(await first(actuator), rig, "1g", 0), "1g", "lease-1")
        quiet = await actuator.sample(made)
        assert (quiet.memory, quiet.processes) == (0, 0)
        with rig.using(actuator, made):
            busy = await actuator.sample(made)
            assert (busy.engine, busy.memory, busy.processes) == (0.75, 1048576, 1)
        assert (await actuator.sample(made)).engine == 0.0
        await actuator.destroy(made)
        gone = await actuator.sample(made)
        assert (gone.engine, gone.memory, gone.processes) == (None, None, None)

    async def test_a_whole_gpu_and_slices_take_turns(self, rig):
        actuator = rig.actuator()
        gpu = await first(actuator)
        piece = await actuator.make(on(gpu, rig, "1g", 0), "1g", "a")
        with pytest.raises(ActuatorError):
            await actuator.make(on(gpu, rig, WHOLE, 0), WHOLE, "b")
        await actuator.destroy(piece)
        whole = await actuator.make(on(gpu, rig, WHOLE, 0), WHOLE, "b")
        assert (whole.uuid, whole.shape) == (gpu, WHOLE)
        assert await actuator.make(on(gpu, rig, WHOLE, 0), WHOLE, "b") == whole
        card = (await rig.actuator().cards())[0]
        assert (card.mig, card.instances) == (False, (whole,))
        with pytest.raises(ActuatorError):
            await actuator.make(on(gpu, rig, "1g", 0), "1g", "c")
        await actuator.destroy(whole)
        await actuator.make(on(gpu, rig, "1g", 0), "1g", "c")
        assert (await actuator.cards())[0].mig

    async def test_two_at_once_get_one_slice_between_them(self, rig):
        actuator = rig.actuator()
        slot = on(await first(actuator), rig, "4g", 0)
        results = await asyncio.gather(
            *(actuator.make(slot, "4g", f"lease-{turn}") for turn in range(5)), return_exceptions=True
        )
        assert sum(isinstance(one, Instance) for one in results) == 1
        assert sum(isinstance(one, ActuatorError) for one in results) == 4

    async def test_it_knows_the_drivers_names(self, rig):
        assert (await rig.actuator().names())["3g"] == "3g.40gb"


@pytest.mark.needs_gpu
class TestHardware:
    """Read only: what NVIDIA's own library says, against the table of models."""

    @pytest.fixture
    def library(self) -> Iterator[Library]:
        library = Library()
        yield library
        library.close()

    async def test_the_cards_are_of_a_known_model_and_say_what_they_do(self, library, tmp_path):
        for device in library.devices():
            model = next((one for one in models().values() if device.pci_id in one.pci_ids), None)
            if model is None:
                pytest.skip(f"{device.name} ({device.pci_id}) is not in the table of models")
            pool = NvmlPool(actuator="nvml", model=model.name, devices=(device.uuid,))
            actuator = NvmlActuator("hardware", pool, model, tmp_path / device.uuid, library=library)
            card = (await actuator.cards())[0]
            assert (card.id, card.healthy) == (device.uuid, True)
            for instance in card.instances:
                assert (await actuator.sample(instance)).memory is not None
            with pytest.raises(ActuatorError):
                await actuator.make(Slot(device.uuid, 1, 4), "3g", "never")

    def test_profiles_and_places_are_those_of_the_table(self, library):
        for device in library.devices():
            model = next((one for one in models().values() if device.pci_id in one.pci_ids), None)
            offered = library.profiles(device)
            if model is None or not offered:
                pytest.skip(f"{device.name} shows no GPU-instance profiles, or is not in the table")
            for name in model.profiles:
                shape = model.geometry.shapes[name]
                if shape.profile_id in offered:
                    assert offered[shape.profile_id].compute == shape.counters["compute"], name
                    assert offered[shape.profile_id].maximum == model.profiles[name].maximum, name
                    places = library.placements(device, shape.profile_id)
                    assert places == tuple((start, shape.size) for start in shape.starts), name

    def test_engine_activity_is_measured_or_said_to_be_unknown(self, library):
        for device in library.devices():
            reading = library.gpm_sample(device, None)
            if reading is None:
                assert library.utilisation(device) is None or 0 <= library.utilisation(device) <= 1
            else:
                library.gpm_free(reading)


@pytest.mark.parametrize("name", sorted(models()))
def test_every_shape_can_fill_a_gpu_to_its_documented_number(name):
    model = models()[name]
    for shape, profile in model.profiles.items():
        placed = lay_out(model, [shape] * profile.maximum)
        assert placed is not None, shape
        assert lay_out(model, [shape] * (profile.maximum + 1)) is None, shape


def test_a_server_without_a_gpu_sees_none():
    assert hidden() == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
