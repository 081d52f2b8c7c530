"""The GPUs of a machine: what is there, what may be changed, and what is somebody else's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from specola.gpu.adapters.nvml import ASSUMED_LATENCY, NvmlActuator
from specola.gpu.adapters.nvml_library import Library
from specola.gpu.adapters.probing import probe
from specola.gpu.adapters.profiles import models
from specola.gpu.geometry import WHOLE
from specola.gpu.model import ActuatorError, CondorPool, Instance, KubernetesPool, NvmlPool, SimulatedPool, SlurmPool
from specola.gpu.state import Slot

from gpu.fakenvml import FakeNvml, Gi, Gpu, beneath

A100, H100 = models()["A100-40GB"], models()["H100-80GB"]


@pytest.fixture
def ampere() -> Iterator[FakeNvml]:
    fake = FakeNvml(A100, 2)
    with beneath(fake):
        yield fake


@pytest.fixture
def hopper() -> Iterator[FakeNvml]:
    fake = FakeNvml(H100, 1)
    with beneath(fake):
        yield fake


def actuator(fake: FakeNvml, directory: Path, **more: object) -> NvmlActuator:
    pool = NvmlPool.model_validate({"actuator": "nvml", "model": fake.model.name, **more})
    return NvmlActuator("p", pool, fake.model, directory)


def divided(gpu: Gpu, *pieces: tuple[str, int]) -> None:
    """The administrator has partitioned a GPU."""
    gpu.mig = gpu.pending = True
    gpu.gis = [Gi(number + 1, shape, start, [1]) for number, (shape, start) in enumerate(pieces)]
    for gi in gpu.gis:
        gi.cis = [10 + (1, 2, 3, 4, 7).index({"1gx2": 1, "1g+me": 1}.get(gi.shape, int(gi.shape[0])))]


def of(found: Instance) -> tuple[str, int, str | None]:
    return found.shape, found.slot.start, found.tag


class TestWhatIsThere:
    """`create: false`."""

    async def test_one_host_with_a_few_gpus_gives_each_person_one(self, ampere, tmp_path):
        here = actuator(ampere, tmp_path)
        assert (here.granularity, here.latency) == ("none", 0.0)
        cards = await here.cards()
        assert [of(one) for card in cards for one in card.instances] == [(WHOLE, 0, None), (WHOLE, 0, None)]
        first = await here.make(Slot(cards[0].id, 0, 8), WHOLE, "anna")
        second = await here.make(Slot(cards[1].id, 0, 8), WHOLE, "ben")
        assert {here.environment(one)["CUDA_VISIBLE_DEVICES"] for one in (first, second)} == {card.id for card in cards}
        with pytest.raises(ActuatorError, match="is held"):
            await here.make(Slot(cards[0].id, 0, 8), WHOLE, "cleo")
        assert not {call for call in ampere.calls if "Create" in call or "Destroy" in call or "Set" in call}

    async def test_the_administrators_slices_are_handed_out_and_kept(self, ampere, tmp_path):
        divided(ampere.gpus[0], ("3g", 4), ("2g", 2), ("1g", 0))
        here = actuator(ampere, tmp_path, devices=[ampere.gpus[0].uuid])
        (card,) = await here.cards()
        assert sorted(map(of, card.instances)) == [("1g", 0, None), ("2g", 2, None), ("3g", 4, None)]
        held = await here.make(Slot(card.id, 4, 4), "3g", "anna")
        assert held == await actuator(ampere, tmp_path).make(Slot(card.id, 4, 4), "3g", "anna")
        with pytest.raises(ActuatorError, match="makes none"):
            await here.make(Slot(card.id, 1, 1), "1g", "ben")
        await here.destroy(held)
        assert len(ampere.gpus[0].gis) == 3
        assert ("3g", 4, None) in map(of, (await here.cards())[0].instances)

    async def test_a_slice_that_somebody_uses_without_a_lease_is_not_given(self, ampere, tmp_path):
        divided(ampere.gpus[0], ("3g", 4), ("3g", 0))
        ampere.gpus[0].gis[0].processes = [7]
        ampere.gpus[1].processes = [8]
        here = actuator(ampere, tmp_path)
        first, second = await here.cards()
        assert ([of(one) for one in first.instances], first.foreign) == ([("3g", 0, None)], ((4, 4),))
        assert (second.instances, second.foreign) == ((), ((0, 8),))
        with pytest.raises(ActuatorError, match="a process uses the slice"):
            await here.make(Slot(first.id, 4, 4), "3g", "anna")
        with pytest.raises(ActuatorError, match="a process uses"):
            await here.make(Slot(second.id, 0, 8), WHOLE, "anna")

    async def test_an_account_without_rights_still_knows_the_slices(self, ampere, tmp_path):
        divided(ampere.gpus[0], ("3g", 4), ("1gx2", 0), ("1g", 2), ("1g", 3))
        ampere.refused = {"nvmlDeviceGetGpuInstanceById", "nvmlDeviceGetGpuInstances"}
        here = actuator(ampere, tmp_path, devices=[ampere.gpus[0].uuid])
        (card,) = await here.cards()
        assert sorted(one.shape for one in card.instances) == ["1g", "1g", "1gx2", "3g"]
        assert len({one.slot for one in card.instances}) == 4
        piece = next(one for one in card.instances if one.shape == "3g")
        assert (await here.make(piece.slot, "3g", "anna")).uuid == piece.uuid

    async def test_slices_that_no_model_has_make_a_card_unusable(self, ampere, tmp_path):
        divided(ampere.gpus[0], ("7g", 0), ("7g", 0))
        ampere.refused = {"nvmlGpuInstanceGetInfo", "nvmlDeviceGetGpuInstances"}
        (card,) = await actuator(ampere, tmp_path, devices=[ampere.gpus[0].uuid]).cards()
        assert (card.healthy, card.instances) == (False, ())
        assert "not known to this model" in card.reason
        divided(ampere.gpus[0], ("3g", 0))
        a30 = NvmlActuator("p", NvmlPool(actuator="nvml", model="A30-24GB"), models()["A30-24GB"], tmp_path / "a30")
        a30._is_ours = lambda _device: True
        assert (await a30.cards())[0].reason == "A30-24GB has no slice with 3 compute slices"

    async def test_slices_of_unknown_or_several_parts_are_foreign(self, ampere, tmp_path):
        divided(ampere.gpus[0], ("3g", 4), ("2g", 2))
        ampere.gpus[0].gis[0].alien = 77
        ampere.gpus[0].gis[1].cis = [10, 10]
        card = (await actuator(ampere, tmp_path).cards())[0]
        assert (card.instances, set(card.foreign)) == ((), {(4, 4), (2, 2)})


class TestWhichGpus:
    async def test_without_names_a_pool_has_those_of_its_model(self, ampere, tmp_path):
        ampere.gpus[1].pci = "0x1EB810DE"
        assert [card.index for card in await actuator(ampere, tmp_path).cards()] == [0]

    async def test_a_named_gpu_of_another_model_is_not_used(self, ampere, tmp_path):
        ampere.gpus[1].pci = "0x1EB810DE"
        (card,) = await actuator(ampere, tmp_path, devices=[ampere.gpus[1].uuid]).cards()
        assert not card.healthy
        assert card.reason == "it is a NVIDIA T4 (0x1EB810DE), not a A100-40GB"

    async def test_a_named_gpu_that_is_lost_is_shown(self, ampere, tmp_path):
        ampere.gpus[1].lost = True
        here = actuator(ampere, tmp_path, devices=[gpu.uuid for gpu in ampere.gpus])
        assert [(card.healthy, card.reason) for card in await here.cards()] == [
            (True, ""),
            (False, "it does not answer"),
        ]
        with pytest.raises(ActuatorError, match="that answers"):
            await here.make(Slot(ampere.gpus[1].uuid, 0, 8), WHOLE, "anna")

    async def test_a_gpu_that_answers_nonsense_is_shown_with_it(self, hopper, tmp_path):
        hopper.failing = {"nvmlDeviceGetMigMode": "UNKNOWN"}
        (card,) = await actuator(hopper, tmp_path).cards()
        assert (card.healthy, card.reason) == (False, "MIG mode of GPU 0: Unknown Error")


class TestMaking:
    """`create: true`."""

    async def test_ampere_wants_a_reset_and_is_left_as_it_was(self, ampere, tmp_path):
        here = actuator(ampere, tmp_path, create=True)
        with pytest.raises(ActuatorError, match="must be reset to turn MIG mode on"):
            await here.make(Slot(ampere.gpus[0].uuid, 0, 1), "1g", "anna")
        assert (ampere.gpus[0].mig, ampere.gpus[0].pending) == (False, False)
        assert (await here.cards())[0].instances == ()

    async def test_hopper_is_switched_while_nothing_uses_it(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        slot = Slot(hopper.gpus[0].uuid, 0, 1)
        hopper.gpus[0].processes = [4]
        assert (await here.cards())[0].foreign == ((0, 8),)
        with pytest.raises(ActuatorError, match="a process uses GPU 0"):
            await here.make(slot, "1g", "anna")
        hopper.gpus[0].processes = []
        assert here.latency == ASSUMED_LATENCY
        await here.make(slot, "1g", "anna")
        assert hopper.gpus[0].mig
        assert here.latency != ASSUMED_LATENCY

    async def test_it_makes_one_compute_instance_with_everything(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        await here.make(Slot(hopper.gpus[0].uuid, 4, 4), "3g", "anna")
        (gi,) = hopper.gpus[0].gis
        assert (gi.shape, gi.start, gi.cis) == ("3g", 4, [12])

    async def test_others_slices_are_theirs(self, hopper, tmp_path):
        divided(hopper.gpus[0], ("3g", 4))
        here = actuator(hopper, tmp_path, create=True)
        (card,) = await here.cards()
        assert (card.instances, card.foreign) == ((), ((4, 4),))
        with pytest.raises(ActuatorError, match="not all free"):
            await here.make(Slot(card.id, 4, 4), "3g", "anna")
        await here.destroy(Instance("MIG-x", "3g", Slot(card.id, 4, 4)))
        assert len(hopper.gpus[0].gis) == 1

    async def test_killed_between_the_two_halves_it_goes_on(self, hopper, tmp_path):
        here, slot = actuator(hopper, tmp_path, create=True), Slot(hopper.gpus[0].uuid, 0, 1)
        hopper.failing = {"nvmlGpuInstanceCreateComputeInstance": "UNKNOWN"}
        with pytest.raises(ActuatorError):
            await here.make(slot, "1g", "anna")
        assert [(one.uuid, *of(one)) for one in (await here.cards())[0].instances] == [("", "1g", 0, "anna")]
        hopper.failing = {}
        made = await actuator(hopper, tmp_path, create=True).make(slot, "1g", "anna")
        assert made.uuid
        await here.destroy(made)
        assert hopper.gpus[0].gis == []

    async def test_a_half_made_slice_can_be_given_up(self, hopper, tmp_path):
        here, slot = actuator(hopper, tmp_path, create=True), Slot(hopper.gpus[0].uuid, 0, 1)
        hopper.failing = {"nvmlGpuInstanceCreateComputeInstance": "UNKNOWN"}
        with pytest.raises(ActuatorError):
            await here.make(slot, "1g", "anna")
        await here.destroy((await here.cards())[0].instances[0])
        assert hopper.gpus[0].gis == []
        assert (await here.cards())[0].instances == ()

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            ("NO_PERMISSION", "needs root, or the driver's capability"),
            ("INSUFFICIENT_RESOURCES", "slots are not free"),
            ("GPU_IS_LOST", "GPU is lost"),
        ],
    )
    async def test_what_the_driver_refuses_is_said_and_leaves_no_tag(self, hopper, tmp_path, error, words):
        here = actuator(hopper, tmp_path, create=True)
        hopper.failing = {"nvmlDeviceCreateGpuInstanceWithPlacement": error}
        with pytest.raises(ActuatorError, match=words):
            await here.make(Slot(hopper.gpus[0].uuid, 0, 1), "1g", "anna")
        assert (tmp_path / "tags.json").read_text() == "{}"

    async def test_a_profile_that_is_another_one_here_is_not_made(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        hopper.model = models()["A30-24GB"]
        hopper.gpus[0].mig = True
        here._is_ours = lambda _device: True
        with pytest.raises(ActuatorError, match="profile 5 is not 4g"):
            await here.make(Slot(hopper.gpus[0].uuid, 0, 4), "4g", "anna")

    async def test_a_slice_in_use_ends_when_its_process_does(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        made = await here.make(Slot(hopper.gpus[0].uuid, 0, 1), "1g", "anna")
        hopper.failing = {"nvmlComputeInstanceDestroy": "IN_USE"}
        with pytest.raises(ActuatorError, match="still uses it"):
            await here.destroy(made)
        hopper.failing = {}
        await here.destroy(made)

    async def test_a_driver_that_offers_no_compute_instance(self, hopper, tmp_path):
        hopper.failing = {"nvmlGpuInstanceGetComputeInstanceProfileInfoV": "NOT_SUPPORTED"}
        with pytest.raises(ActuatorError, match="no compute instance"):
            await actuator(hopper, tmp_path, create=True).make(Slot(hopper.gpus[0].uuid, 0, 1), "1g", "anna")

    async def test_a_slice_that_vanishes_at_once_is_no_success(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        await here.make(Slot(hopper.gpus[0].uuid, 0, 1), "1g", "anna")
        hopper.gpus[0].gis[0].cis = []
        hopper.failing = {"nvmlDeviceGetGpuInstances": "NOT_SUPPORTED"}
        here._library.create = lambda *_: None
        with pytest.raises(ActuatorError, match="is not there"):
            await here.make(Slot(hopper.gpus[0].uuid, 1, 1), "1g", "ben")


class TestLoad:
    async def test_hopper_measures_the_engine_of_a_slice(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        made = await here.make(Slot(hopper.gpus[0].uuid, 0, 1), "1g", "anna")
        assert (await here.sample(made)).engine is None
        hopper.gpus[0].gis[0].engine = 0.5
        assert (await here.sample(made)).engine == 0.5
        assert hopper.samples == 1
        hopper.failing = {"nvmlGpmMetricsGet": "NO_DATA"}
        assert (await here.sample(made)).engine is None
        assert hopper.samples == 1
        hopper.failing = {}
        await here.destroy(made)
        assert hopper.samples == 0

    async def test_an_engine_that_this_account_may_not_see_is_unknown(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path, create=True)
        made = await here.make(Slot(hopper.gpus[0].uuid, 0, 1), "1g", "anna")
        hopper.refused = {"nvmlGpmMigSampleGet"}
        sample = await here.sample(made)
        assert (sample.engine, sample.memory) == (None, 0)
        assert hopper.samples == 0

    async def test_ampere_measures_whole_gpus_only(self, ampere, tmp_path):
        divided(ampere.gpus[0], ("3g", 4))
        ampere.gpus[0].gis[0].memory, ampere.gpus[1].engine = 5, 0.25
        here = actuator(ampere, tmp_path)
        piece, whole = (card.instances[0] for card in await here.cards())
        sample = await here.sample(piece)
        assert (sample.engine, sample.memory, sample.processes) == (None, 5, 0)
        assert (await here.sample(whole)).engine == 0.25

    async def test_a_whole_hopper_is_measured_too(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path)
        whole = (await here.cards())[0].instances[0]
        hopper.gpus[0].engine = 0.125
        await here.sample(whole)
        assert (await here.sample(whole)).engine == 0.125

    async def test_a_gpu_that_fell_off_the_bus_says_nothing(self, hopper, tmp_path):
        here = actuator(hopper, tmp_path)
        whole = (await here.cards())[0].instances[0]
        hopper.gpus[0].lost = True
        sample = await here.sample(whole)
        assert (sample.engine, sample.memory, sample.processes) == (None, None, None)


class TestLibrary:
    async def test_names_are_the_drivers(self, hopper, tmp_path):
        hopper.renamed = "3g.39gb"
        assert (await actuator(hopper, tmp_path).names())["3g"] == "3g.39gb"

    async def test_everything_is_asked_from_one_thread(self, hopper, tmp_path):
        here, threads = actuator(hopper, tmp_path), set()
        count = hopper._nvmlDeviceGetCount_v2
        hopper._nvmlDeviceGetCount_v2 = lambda found: threads.add(threading.current_thread().name) or count(found)
        for _ in range(5):
            await here.cards()
        assert len(threads) == 1

    def test_the_places_of_a_profile(self, hopper):
        library = Library()
        (device,) = library.devices()
        assert library.placements(device, 9) == ((0, 4), (4, 4))
        assert library.version() == "580.00"
        library.close()
        library.close()

    def test_a_driver_that_is_too_old(self, hopper):
        hopper.missing = {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlSystemGetDriverVersion"}
        library = Library()
        with pytest.raises(ActuatorError, match="too old"):
            library.processes(library.devices()[0].handle)
        with pytest.raises(ActuatorError, match="Function Not Found"):
            library.version()

    def test_without_a_driver_or_its_bindings(self, monkeypatch):
        with beneath(FakeNvml(H100, 1)) as _:
            pass
        fake = FakeNvml(H100, 1)
        fake.failing = {"nvmlInitWithFlags": "DRIVER_NOT_LOADED"}
        with beneath(fake), pytest.raises(ActuatorError, match="driver does not answer: Driver Not Loaded"):
            Library().version()
        monkeypatch.setitem(sys.modules, "pynvml", None)
        with pytest.raises(ActuatorError, match=r"comes with `specola\[gpu\]`"):
            Library().version()


class TestDoctor:
    async def told(self, fake: FakeNvml, **more: object):
        pool = NvmlPool.model_validate({"actuator": "nvml", "model": fake.model.name, **more})
        return [(one.well, one.text) for one in await probe(pool, fake.model, Path("/nowhere"))]

    async def test_a_healthy_machine(self, hopper):
        divided(hopper.gpus[0], ("3g", 4))
        assert await self.told(hopper, create=True) == [
            (True, "driver 580.00"),
            (True, "GPU 0 is a NVIDIA H100 80GB HBM3, MIG mode with 1 slices"),
        ]

    async def test_what_ampere_needs(self, ampere):
        ampere.gpus[1].pending = True
        said = await self.told(ampere, create=True)
        assert (False, "GPU 0 needs a reset before it can be partitioned") in said
        assert (False, "GPU 1 changes its MIG mode at the next reset") in said
        assert (None, "GPU 0 has no performance monitor: only whole GPUs have their engine measured") in said

    async def test_other_gpus_than_the_pool_says(self, ampere):
        for gpu in ampere.gpus:
            gpu.pci = "0x1EB810DE"
        assert (False, "no A100-40GB is here; found: NVIDIA T4 (0x1EB810DE)") in await self.told(ampere)
        assert (False, "GPU-x does not answer") in await self.told(ampere, devices=["GPU-x"])

    async def test_a_driver_that_contradicts_the_table(self, hopper):
        hopper.model, pool = models()["A30-24GB"], NvmlPool(actuator="nvml", model="H100-80GB")
        hopper.gpus[0].pci = H100.pci_ids[0]
        said = [one.text for one in await probe(pool, H100, Path("/nowhere"))]
        assert "profile 5 of this driver is 2g.12gb, not a slice 4g" in said

    async def test_a_machine_without_a_driver(self):
        fake = FakeNvml(H100, 1)
        fake.failing = {"nvmlInitWithFlags": "DRIVER_NOT_LOADED"}
        with beneath(fake):
            assert await self.told(fake) == [(False, "the NVIDIA driver does not answer: Driver Not Loaded")]

    async def test_simulated_cards_are_called_that(self, tmp_path):
        pool = SimulatedPool(actuator="simulated", model="A100-40GB", cards=2)
        assert [one.text for one in await probe(pool, A100, tmp_path)] == [
            "simulated: 2 cards A100-40GB that compute nothing, 0 slices held"
        ]
        (tmp_path / "card-0.json").write_text('{"slices": [{"tag": "a"}, {"tag": null}]}')
        assert (await probe(pool, A100, tmp_path))[0].text.endswith("1 slices held")
        (tmp_path / "card-1.json").write_text("{")
        assert (await probe(pool, A100, tmp_path))[0].well is False

    @pytest.mark.parametrize("kind", [SlurmPool, CondorPool, KubernetesPool])
    async def test_others_decide_for_themselves(self, kind, tmp_path):
        actuator = {SlurmPool: "slurm", CondorPool: "condor", KubernetesPool: "dra"}[kind]
        pool = kind.model_validate({"actuator": actuator, "model": "A100-40GB"})
        assert [one.well for one in await probe(pool, A100, tmp_path)] == [None]
