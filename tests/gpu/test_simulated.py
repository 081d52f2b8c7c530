"""Simulated cards refuse what real ones refuse, and believe nothing that people write."""

# ruff: noqa: ASYNC230, ASYNC240 - files of a few bytes
from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from specola.core.accounts import Ledger
from specola.core.files import replace_file
from specola.core.layout import Layout
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.simulated import VARIABLE, SimulatedActuator
from specola.gpu.adapters.simulated_control import Control, Fault, Phase, Refusals, read_control, write_control
from specola.gpu.geometry import WHOLE
from specola.gpu.model import ActuatorError, Instance, SimulatedPool
from specola.gpu.state import Slot
from specola.launcher.reset import remains
from specola_worker.simulated import Load

LAYOUT = ("3g", "2g", "1g", "1g")
NONSENSE = (
    "",
    "{",
    "[1]",
    "null",
    "[" * 100_000,
    "\x00\xff" * 50,
    '{"engine": "x"}',
    '{"engine": NaN}',
    '{"engine": null}',
    '{"engine": -1}',
    '{"memory": Infinity}',
    '{"memory": -5}',
)


def cards(directory: Path, model: str = "A100-40GB", count: int = 1, layout=None) -> SimulatedActuator:
    pool = SimulatedPool(actuator="simulated", model=model, cards=count, layout=layout)
    return SimulatedActuator("p", pool, models()[model], directory)


async def make(
    actuator: SimulatedActuator, shape: str, start: int, tag: str = "a", size: int | None = None
) -> Instance:
    geometry = actuator._model.geometry
    gpu = (await actuator.cards())[0].id
    return await actuator.make(Slot(gpu, start, size or geometry.size(shape)), shape, tag)


def resets(directory: Path) -> int:
    return json.loads((directory / "card-0.json").read_text())["resets"]


class TestRules:
    async def test_ampere_is_reset_for_mig_mode_unless_something_holds_it(self, tmp_path):
        actuator = cards(tmp_path)
        write_control(tmp_path, Control(cards={0: Fault(held="a monitoring agent")}))
        with pytest.raises(ActuatorError, match=r"must be reset.*a monitoring agent holds it"):
            await make(actuator, "1g", 0)
        whole = await make(actuator, WHOLE, 0)
        await actuator.destroy(whole)
        write_control(tmp_path, Control())
        piece = await make(actuator, "1g", 0)
        assert resets(tmp_path) == 1
        await actuator.destroy(piece)
        await make(actuator, WHOLE, 0, "b")
        assert resets(tmp_path) == 2

    async def test_hopper_enters_mig_mode_without_a_reset(self, tmp_path):
        actuator = cards(tmp_path, "H100-80GB")
        write_control(tmp_path, Control(cards={0: Fault(held="a monitoring agent")}))
        await make(actuator, "1g", 0)
        assert resets(tmp_path) == 0

    async def test_a_slot_has_the_size_of_its_shape(self, tmp_path):
        with pytest.raises(ActuatorError, match="has 4 slots, not 2"):
            await make(cards(tmp_path), "3g", 0, size=2)

    async def test_what_others_occupy_is_taken(self, tmp_path):
        actuator = cards(tmp_path)
        write_control(tmp_path, Control(cards={0: Fault(foreign=((4, 4),))}))
        assert (await actuator.cards())[0].foreign == ((4, 4),)
        with pytest.raises(ActuatorError, match="not all free"):
            await make(actuator, "3g", 4)
        with pytest.raises(ActuatorError, match="not empty"):
            await make(actuator, WHOLE, 0)
        await make(actuator, "4g", 0)

    async def test_a_card_that_fell_off_the_bus_makes_nothing(self, tmp_path):
        actuator = cards(tmp_path)
        write_control(tmp_path, Control(cards={0: Fault(healthy=False, reason="Xid 79")}))
        card = (await actuator.cards())[0]
        assert (card.healthy, card.reason) == (False, "Xid 79")
        with pytest.raises(ActuatorError, match="Xid 79"):
            await make(actuator, "1g", 0)

    async def test_it_is_as_slow_and_as_unwilling_as_it_is_told(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        write_control(tmp_path, Control(latency=0.01, refuse=Refusals(make="no", destroy="never")))
        assert actuator.latency == 0.01
        with pytest.raises(ActuatorError, match=r"^no$"):
            await make(actuator, "1g", 1, "b")
        with pytest.raises(ActuatorError, match=r"^never$"):
            await actuator.destroy(made)

    async def test_a_drivers_names_change_and_nothing_else_does(self, tmp_path):
        actuator = cards(tmp_path, "A100-80GB")
        write_control(tmp_path, Control(names={"3g": "3g.39gb"}))
        assert (await actuator.names())["3g"] == "3g.39gb"
        assert (await make(actuator, "3g", 4)).shape == "3g"

    async def test_a_control_file_that_makes_no_sense_tells_nothing(self, tmp_path, caplog):
        replace_file(tmp_path / "control.json", '{"latency": -1}')
        assert read_control(tmp_path) == Control()
        assert "not understood" in caplog.text


class TestLayout:
    async def test_slices_of_a_layout_are_there_and_stay(self, tmp_path):
        actuator = cards(tmp_path, layout=LAYOUT)
        assert actuator.granularity == "none"
        before = (await actuator.cards())[0]
        assert before.mig
        assert sorted(one.shape for one in before.instances) == sorted(LAYOUT)
        assert all(one.tag is None for one in before.instances)
        piece = next(one for one in before.instances if one.shape == "3g")
        held = await actuator.make(piece.slot, "3g", "a")
        assert (held.uuid, held.tag) == (piece.uuid, "a")
        assert held == await cards(tmp_path, layout=LAYOUT).make(piece.slot, "3g", "a")
        with pytest.raises(ActuatorError, match="is held"):
            await actuator.make(piece.slot, "3g", "b")
        with pytest.raises(ActuatorError, match="cannot be changed"):
            await actuator.make(Slot(before.id, 0, 8), "7g", "b")
        await actuator.destroy(held)
        assert set((await actuator.cards())[0].instances) == set(before.instances)

    async def test_the_next_holder_gets_another_door(self, tmp_path):
        actuator = cards(tmp_path, layout=LAYOUT)
        piece = (await actuator.cards())[0].instances[0]
        doors = set()
        for tag in "abc":
            held = await actuator.make(piece.slot, piece.shape, tag)
            doors.add(actuator.environment(held)[VARIABLE])
            await actuator.destroy(held)
        assert len(doors) == 3
        assert not any(Path(door).exists() for door in doors)

    async def test_whole_gpus_are_a_layout_too(self, tmp_path):
        card = (await cards(tmp_path, layout=(WHOLE,)).cards())[0]
        assert not card.mig
        assert [one.uuid for one in card.instances] == [card.id]

    @pytest.mark.parametrize("layout", [("7g", "1g"), ("5g",), (WHOLE, "1g"), ("1g+me", "1g+me")])
    def test_a_layout_that_does_not_fit_is_refused(self, tmp_path, layout):
        with pytest.raises(ActuatorError, match="do not fit"):
            cards(tmp_path, layout=layout)

    async def test_a_new_layout_waits_for_the_old_ones_holders(self, tmp_path):
        old = cards(tmp_path, layout=LAYOUT)
        piece = (await old.cards())[0].instances[0]
        held = await old.make(piece.slot, piece.shape, "a")
        new = cards(tmp_path, layout=("7g",))
        assert len((await new.cards())[0].instances) == 4
        with pytest.raises(ActuatorError, match="former layout"):
            await make(new, "7g", 0, "b")
        await new.destroy(held)
        assert [one.shape for one in (await new.cards())[0].instances] == ["7g"]

    async def test_cards_of_another_model_are_new_cards(self, tmp_path):
        await make(cards(tmp_path), "1g", 0)
        assert (await cards(tmp_path, "H100-80GB").cards())[0].instances == ()


class TestLoad:
    async def test_a_script_says_what_nobody_else_does(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        write_control(tmp_path, Control(script=(Phase(after=0, engine=0.5, memory_gib=99), Phase(after=3600))))
        sample = await actuator.sample(made)
        assert (sample.engine, sample.memory, sample.processes) == (0.5, int(4.75 * 2**30), 1)
        write_control(tmp_path, Control(script=(Phase(after=3600, engine=0.5),)))
        assert (await actuator.sample(made)).engine == 0.0

    async def test_an_engine_that_nobody_can_measure_is_unknown(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, WHOLE, 0)
        write_control(tmp_path, Control(blind=True))
        sample = await actuator.sample(made)
        assert (sample.engine, sample.memory, sample.processes) == (None, 0, 0)

    async def test_a_process_makes_its_slice_compute_and_go_quiet(self, tmp_path, monkeypatch):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        with pytest.raises(LookupError, match="no simulated GPU"):
            Load()
        monkeypatch.setenv(VARIABLE, actuator.environment(made)[VARIABLE])
        with Load(engine=0.9, gib=4) as load:
            sample = await actuator.sample(made)
            assert (sample.engine, sample.memory, sample.processes) == (0.9, 4 * 2**30, 1)
            load.change(engine=0).begin()
            sample = await actuator.sample(made)
            assert (sample.engine, sample.memory, sample.processes) == (0.0, 4 * 2**30, 1)
            assert load.change(gib=1).engine == 0
            with pytest.raises(ActuatorError, match="still uses"):
                await actuator.destroy(made)
        load.end()
        assert (await actuator.sample(made)).processes == 0
        await actuator.destroy(made)

    @pytest.mark.parametrize("word", NONSENSE)
    async def test_what_people_write_is_not_believed(self, tmp_path, word):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        with Path(actuator.environment(made)[VARIABLE]).open("r+", errors="surrogateescape") as door:
            fcntl.flock(door, fcntl.LOCK_SH)
            door.write(word)
            door.flush()
            sample = await actuator.sample(made)
        assert (sample.engine, sample.memory, sample.processes) == (0.0, 0, 1)

    async def test_nobody_claims_more_than_the_slice_has(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        with Path(actuator.environment(made)[VARIABLE]).open("r+") as door:
            fcntl.flock(door, fcntl.LOCK_SH)
            door.write('{"engine": 7, "memory": 1e30}')
            door.flush()
            sample = await actuator.sample(made)
        assert (sample.engine, sample.memory) == (1.0, int(4.75 * 2**30))

    async def test_a_door_that_is_no_file_is_nobodys(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        door = Path(actuator.environment(made)[VARIABLE])
        door.unlink()
        os.mkfifo(door)
        assert (await actuator.sample(made)).processes == 0

    async def test_doors_that_were_tidied_away_come_back(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        door = Path(actuator.environment(made)[VARIABLE])
        door.unlink()
        assert Path(actuator.environment(made)[VARIABLE]).exists()
        shutil.rmtree(door.parent)
        again = cards(tmp_path)
        assert (await again.cards())[0].instances == (made,)
        assert Path(again.environment(made)[VARIABLE]).exists()

    async def test_a_slice_that_is_gone_has_no_door(self, tmp_path):
        actuator = cards(tmp_path)
        made = await make(actuator, "1g", 0)
        await actuator.destroy(made)
        assert VARIABLE not in actuator.environment(made)

    @pytest.mark.needs_root
    async def test_a_persons_account_may_use_its_door_and_find_no_other(self, monkeypatch):
        top = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
        monkeypatch.setattr(tempfile, "tempdir", str(top))
        try:
            top.chmod(0o711)
            actuator = cards(top / "state")
            made = await make(actuator, "1g", 0)
            door = actuator.environment(made)[VARIABLE]
            program = (
                "import fcntl, json, os, sys; door = open(sys.argv[1], 'r+'); fcntl.flock(door, fcntl.LOCK_SH)\n"
                "door.write('{\"engine\": 0.25}'); door.flush()\n"
                "for what in (lambda: os.listdir(os.path.dirname(sys.argv[1])), lambda: os.unlink(sys.argv[1])):\n"
                "    try: what(); print('open')\n"
                "    except PermissionError: print('closed')\n"
                "sys.stdout.flush(); sys.stdin.read()\n"
            )
            person = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                program,
                door,
                user="nobody",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert [await person.stdout.readline() for _ in range(2)] == [b"closed\n", b"closed\n"]
            assert (await actuator.sample(made)).engine == 0.25
            with pytest.raises(ActuatorError, match="still uses"):
                await actuator.destroy(made)
            person.kill()
            await person.wait()
            await actuator.destroy(made)
        finally:
            shutil.rmtree(top)


class TestFiles:
    async def test_a_reset_takes_the_doors_of_its_facility_and_no_others(self, tmp_path):
        layout, place = Layout(tmp_path / "state"), Path(tempfile.gettempdir())
        pool = SimulatedPool(actuator="simulated", model="A100-40GB")
        for facility in (layout.id, "0" * 8):
            SimulatedActuator("p", pool, models()["A100-40GB"], tmp_path / facility, facility=facility)
        (place / f"specola-gpu-{layout.id}-linked").symlink_to("/")
        found = remains(layout, Ledger(tmp_path / "accounts.json")).directories
        (doors,) = [path for path in found if path.parent == place]
        assert doors.name.startswith(f"specola-gpu-{layout.id}-")
        assert not doors.is_symlink()

    async def test_a_damaged_card_is_a_blank_one(self, tmp_path, caplog):
        actuator = cards(tmp_path)
        await make(actuator, "1g", 0)
        for damage in ("", "{", "[]", '{"slices": [{"x": 1}]}'):
            (tmp_path / "card-0.json").write_text(damage)
            assert (await actuator.cards())[0].instances == ()
        assert "damaged" in caplog.text

    async def test_a_damaged_pool_gets_new_names(self, tmp_path):
        before = (await cards(tmp_path).cards())[0].id
        (tmp_path / "pool.json").write_text("{")
        assert (await cards(tmp_path).cards())[0].id != before

    async def test_two_facilities_have_different_cards(self, tmp_path):
        assert (await cards(tmp_path / "a").cards())[0].id != (await cards(tmp_path / "b").cards())[0].id

    async def test_killed_at_any_moment_it_has_no_slice_twice_and_none_half(self, tmp_path):
        program = (
            "import asyncio, random, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from gpu.test_simulated import cards, make; from specola.gpu.model import ActuatorError\n"
            "async def main():\n"
            "    actuator = cards(Path(sys.argv[2])); print('ready', flush=True)\n"
            "    while True:\n"
            "        card = (await actuator.cards())[0]\n"
            "        for one in card.instances: await actuator.destroy(one)\n"
            "        for start in range(7): await make(actuator, '1g', start, f'lease-{start}')\n"
            "asyncio.run(main())\n"
        )
        chance = random.Random(7)
        tests, environment = str(Path(__file__).parents[1]), os.environ | {"TMPDIR": tempfile.gettempdir()}
        for _ in range(4):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, tests, str(tmp_path), stdout=subprocess.PIPE, env=environment
            )
            await process.stdout.readline()
            await asyncio.sleep(chance.random() / 5)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            held = (await cards(tmp_path).cards())[0].instances
            assert [one.tag for one in held] == [f"lease-{one.slot.start}" for one in held]
            assert len({one.slot for one in held}) == len(held)
