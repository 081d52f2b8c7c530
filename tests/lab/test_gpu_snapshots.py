# ruff: noqa: ASYNC240 - a test waits for what it sees, and may read a file
"""What a GPU kernel leaves behind: checkpoints, and its variables as far as they can be saved."""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from lab.fakeservice import FakeGpu
from lab.gpurig import Client, Gpu, running, until
from specola_lab import gpu as api
from specola_lab.gpu import shelf
from specola_worker.kernel import pickling, snapshot, state

NOTEBOOK = """
import math, threading
x = 1
def f(a):
    return a + x + g()
def g():
    return math.floor(2.5)
class Model:
    def __init__(self):
        self.weights = [1.0, 2.0]
    def scaled(self):
        return [x * one for one in self.weights]
model = Model()
optimiser = {"weights": model.weights}
lock = threading.Lock()
numbers = (one for one in range(3))
_hidden = 1
"""


def namespace(code: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(code, made)
    return made


def dump(path: Path, made: dict[str, Any], limit: int = 10**9, until: float | None = None) -> Any:
    return pickling.dump(path, made, {}, limit=limit, until=until or time.monotonic() + 60)


# variables, without a kernel


def test_a_namespace_comes_back_and_what_cannot_be_saved_is_listed_with_a_reason(tmp_path: Path) -> None:
    names, failed = dump(tmp_path / "n", namespace(NOTEBOOK))
    assert names == ["math", "threading", "x", "f", "g", "Model", "model", "optimiser"]
    assert {one["name"]: one["why"] for one in failed} == {
        "lock": "TypeError: cannot pickle '_thread.lock' object",
        "numbers": "TypeError: cannot pickle 'generator' object",
    }
    back = namespace()
    assert pickling.load(tmp_path / "n", names, back) == (names, [])
    assert back["f"](1) == 4
    # as if the cells had run here: functions see what is assigned later
    back["x"] = 100
    assert back["f"](1) == 103
    assert back["model"].scaled() == [100.0, 200.0]
    assert isinstance(back["model"], back["Model"])
    # what belonged together still does
    assert back["optimiser"]["weights"] is back["model"].weights


def test_a_variable_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    made = namespace("import threading\nshared = [1]\nbad = [shared, bytes(10**5), threading.Lock()]\ngood = [shared]")
    names, failed = dump(tmp_path / "n", made)
    assert [one["name"] for one in failed] == ["bad"]
    assert (tmp_path / "n").stat().st_size < 10**5
    back = namespace()
    pickling.load(tmp_path / "n", names, back)
    assert back["good"][0] is back["shared"]


def test_what_goes_past_the_limit_is_left_out_and_the_rest_is_saved(tmp_path: Path) -> None:
    names, failed = dump(tmp_path / "n", namespace("big = bytearray(2 * 10**6)\nsmall = 1"), limit=10**6)
    assert names == ["small"]
    assert "past the limit" in failed[0]["why"]


def test_when_the_time_is_over_the_rest_is_left_out(tmp_path: Path) -> None:
    names, failed = dump(tmp_path / "n", namespace("a = bytearray(10)\nb = 1"), until=time.monotonic() - 1)
    assert names == []
    assert {one["why"] for one in failed} == {"There was no time left for it."}


def test_what_is_not_installed_here_is_named_and_the_rest_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("hep_tools")
    exec("class Tree(list):\n    def __setstate__(self, state): self.__dict__.update(state)", module.__dict__)
    monkeypatch.setitem(sys.modules, "hep_tools", module)
    made = namespace("import hep_tools\ntree = hep_tools.Tree([1, 2])\ntree.name = 'z'\nx = 5")
    del made["hep_tools"]
    names, _ = dump(tmp_path / "n", made)
    monkeypatch.delitem(sys.modules, "hep_tools")
    back = namespace()
    done, failed = pickling.load(tmp_path / "n", names, back)
    assert done == ["x"]
    assert failed == [{"name": "tree", "why": "Not installed here: hep_tools.Tree."}]


def test_a_stand_in_takes_whatever_is_put_into_it() -> None:
    missing = pickling.Missing(1, two=2)
    missing.append(1)
    missing.extend([1])
    missing["x"] = 1


def test_what_comes_after_one_that_cannot_be_read_is_said_to(tmp_path: Path) -> None:
    fail = "def fail():\n    raise ValueError('no such device')\n"
    made = namespace(fail + "class Bad:\n    def __reduce__(self):\n        return fail, ()")
    made |= {"bad": made["Bad"](), "after": 1}
    names, failed = dump(tmp_path / "n", made)
    assert failed == []
    done, failed = pickling.load(tmp_path / "n", names, namespace())
    assert done == ["fail", "Bad"]
    assert [one["why"] for one in failed] == [
        "ValueError: no such device",
        "It comes after bad, which could not be read.",
    ]


class Device:
    def __init__(self, kind: str) -> None:
        self.type = kind


class FakeTensor:
    """As much of a tensor as a snapshot touches."""

    def __init__(self, values: list[float], device: str = "cuda", *, requires_grad: bool = False) -> None:
        self.values, self.device, self.requires_grad = values, Device(device), requires_grad

    def numel(self) -> int:
        return len(self.values)

    def element_size(self) -> int:
        return 8

    def detach(self) -> FakeTensor:
        return FakeTensor(self.values, self.device.type)

    def cpu(self) -> FakeTensor:
        return FakeTensor(self.values, "cpu")

    def requires_grad_(self, wanted: bool) -> FakeTensor:
        self.requires_grad = wanted
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        assert self.device.type == "cpu", "the GPU will be gone"
        return _tensor, (self.values, self.requires_grad)


def _tensor(values: list[float], requires_grad: bool) -> FakeTensor:
    return FakeTensor(values, "cpu", requires_grad=requires_grad)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for torch, which the tests do not install."""
    module = types.ModuleType("torch")
    module.Tensor = FakeTensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)


def test_tensors_of_a_gpu_come_back_on_the_cpu(tmp_path: Path, torch: None) -> None:
    made = namespace()
    weights = FakeTensor([1.0, 2.0], requires_grad=True)
    made |= {"weights": weights, "layers": [weights, FakeTensor([3.0], "cpu")]}
    names, failed = dump(tmp_path / "n", made)
    assert (names, failed) == (["weights", "layers"], [])
    back = namespace()
    pickling.load(tmp_path / "n", names, back)
    assert back["weights"].device.type == "cpu"
    assert back["weights"].requires_grad
    assert back["layers"][0] is back["weights"]
    # without torch having been imported, nothing is asked of it
    assert "torch" not in state.__dict__


def test_a_tensor_that_is_too_large_is_not_copied_first(tmp_path: Path, torch: None) -> None:
    class Large(FakeTensor):
        pass

    large = FakeTensor([])
    large.numel = lambda: 10**9  # type: ignore[method-assign]
    large.cpu = lambda: pytest.fail("copied")  # type: ignore[method-assign]
    _, failed = dump(tmp_path / "n", namespace() | {"large": large}, limit=10**6)
    assert "past the limit" in failed[0]["why"]


def plan(target: Path, made: dict[str, Any], hooks: list[snapshot.Hook], seconds: float = 60) -> snapshot.Plan:
    return snapshot.Plan(
        target=target, namespace=made, hidden={}, hooks=hooks, about={"lease": target.name}, limit=10**9,
        until=time.monotonic() + seconds,
    )  # fmt: skip


def test_hooks_write_to_a_directory_of_their_own_and_read_from_it_again(tmp_path: Path) -> None:
    made = namespace("state = {'epoch': 3}\ndef load(place):\n    state['epoch'] = int((place / 'epoch').read_text())")

    def save(place: Path) -> None:
        (place / "epoch").write_text("7")

    def fail() -> None:
        raise OSError("no space left")

    hooks = [
        snapshot.Hook("epoch", save, made["load"]),
        snapshot.Hook("plain", lambda: None, None),
        snapshot.Hook("broken", fail, None),
        snapshot.Hook("unkept", save, iter([1]).__next__),
    ]
    manifest = snapshot.write(plan(tmp_path / "lease-1", made, hooks))
    assert [one["name"] for one in manifest["hooks"]] == ["epoch", "plain", "unkept"]
    assert manifest["failed"][0] == {"name": "checkpoint broken", "why": "OSError: no space left"}
    assert manifest["size"] > 0
    back = namespace()
    names, loaded, failed = snapshot.read(tmp_path / "lease-1", back, [])
    assert names == ["state", "load"]
    assert loaded == ["epoch", "unkept"]
    assert failed == []
    assert back["state"] == {"epoch": 7}


def test_a_hook_that_is_registered_again_is_the_one_that_reads(tmp_path: Path) -> None:
    seen: list[Path] = []
    old = snapshot.Hook("x", lambda: None, lambda: pytest.fail("the old one"))
    snapshot.write(plan(tmp_path / "a", namespace(), [old]))
    _, loaded, _ = snapshot.read(tmp_path / "a", namespace(), [snapshot.Hook("x", print, seen.append)])
    assert loaded == ["x"]
    assert seen == [tmp_path / "a" / "hooks" / "0"]


def test_a_load_that_fails_is_listed(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("another version")

    snapshot.write(plan(tmp_path / "a", namespace(), [snapshot.Hook("x", lambda: None, lambda: None)]))
    _, loaded, failed = snapshot.read(tmp_path / "a", namespace(), [snapshot.Hook("x", print, fail)])
    assert (loaded, failed) == ([], [{"name": "checkpoint x", "why": "ValueError: another version"}])


def test_a_hook_that_hangs_does_not_take_the_snapshot_with_it(tmp_path: Path) -> None:
    manifest = snapshot.write(
        plan(tmp_path / "a", namespace("x = 1"), [snapshot.Hook("slow", lambda: time.sleep(60), None)], seconds=0.05)
    )
    assert "did not end within" in manifest["failed"][0]["why"]
    assert (tmp_path / "a" / "manifest.json").exists()


def test_a_hook_whose_load_cannot_be_kept_is_listed(tmp_path: Path) -> None:
    import threading

    lock = threading.Lock()
    manifest = snapshot.write(
        plan(tmp_path / "a", namespace(), [snapshot.Hook("x", lambda: None, lambda: lock.locked())])  # noqa: PLW0108 - a closure
    )
    assert "could not be kept" in manifest["failed"][0]["why"]


def test_a_snapshot_replaces_the_one_before_and_only_the_newest_five_are_kept(tmp_path: Path) -> None:
    for number in range(7):
        snapshot.write(plan(tmp_path / f"lease-{number}", namespace(f"x = {number}"), []))
    snapshot.write(plan(tmp_path / "lease-6", namespace("x = 60"), []))
    names = [one["name"] for one in snapshot.listing(tmp_path)]
    assert names == [f"lease-{number}" for number in (6, 5, 4, 3, 2)]
    back = namespace()
    snapshot.read(tmp_path / "lease-6", back, [])
    assert back["x"] == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert shelf.listing(tmp_path) == snapshot.listing(tmp_path)


def test_a_manifest_that_is_none_is_passed_over(tmp_path: Path) -> None:
    for name, text in {"a": "nonsense", "b": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    for damaged in ("[1]", '{"created": "when"}', '{"created": null}'):
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c" / "manifest.json").write_text(damaged)
        assert shelf.listing(tmp_path) == snapshot.listing(tmp_path) == []
    (tmp_path / "c" / "manifest.json").unlink()
    assert shelf.find(tmp_path, "../a") is None
    assert shelf.find(tmp_path, "c") is None


def test_outside_of_a_gpu_kernel_it_says_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "current", None)
    for call in (api.snapshots, api.restore, lambda: api.checkpoint(print)):
        with pytest.raises(api.GpuError, match="Python 3"):
            call()


# in a kernel


async def save(gpu: Gpu) -> dict[str, Any]:
    """The lease comes to its end; what the service was told had been saved."""
    lease = list(gpu.fake.leases.values())[-1]
    gpu.fake.become(lease, "saving", cause="reclaimed")
    await until(lambda: lease["state"] == "ended", what="the snapshot")
    saved: dict[str, Any] = lease["saved"]
    return saved


CHECKPOINT = """
from specola_lab import gpu
import pathlib
state = {"epoch": 0}
def save(place):
    (place / "epoch").write_text(str(state["epoch"]))
def load(place):
    state["epoch"] = int((place / "epoch").read_text()) + 1000
gpu.checkpoint(save, load)
"""


async def test_snapshots_are_in_the_home_also_where_a_facility_has_put_its_link(
    service: FakeGpu, home: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "keys"
    elsewhere.mkdir()
    (home / ".specola").symlink_to(elsewhere)
    async with running(service, home) as gpu:
        kernel = await gpu.kernel()
        await kernel.run("x = 1")
        assert "x" in (await save(gpu))["names"]
    (manifest,) = home.rglob("manifest.json")
    assert manifest.resolve().is_relative_to(home.resolve())
    assert not (elsewhere / "snapshots").exists()


async def test_an_idle_kernel_is_saved_and_offered_in_the_next_one(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await kernel.run(CHECKPOINT + "import threading\nlock = threading.Lock()\nstate['epoch'] = 4")
    saved = await save(gpu)
    assert "state" in saved["names"]
    assert saved["hooks"] == 1
    assert saved["failed"] == [{"name": "lock", "why": "TypeError: cannot pickle '_thread.lock' object"}]
    assert saved["size"] > 0
    place = gpu.home / ".local/share/specola/snapshots/lease-1"
    assert place.stat().st_mode & 0o777 == 0o700
    (told,) = (await gpu.get("specola/gpu/snapshots"))["items"]
    assert told["gpu"]["model"] == "A100-40GB"
    assert told["simulated"] is True

    async def ended() -> bool:
        return (await gpu.kernels())[kernel.id]["reason"] == "Its GPU was idle, and somebody else waited for it."

    await until(ended)
    again = await gpu.kernel()
    assert "gpu.restore('lease-1')" in await again.run("print('first cell')")
    assert await again.run("print('second cell')") == "second cell\n"
    said = await again.run("from specola_lab import gpu\ngpu.restore()")
    assert "Restored" in said
    assert "state" in said
    assert "Loaded the checkpoint save" in said
    assert await again.run("print(state)") == "{'epoch': 1004}\n"
    assert "'lease-1'" in await again.run("print([one['name'] for one in gpu.snapshots()])")
    with pytest.raises(AssertionError, match="no snapshot named 'lease-9'"):
        await again.run("gpu.restore('lease-9')")


async def test_a_busy_kernel_is_saved_beside_its_cell_which_then_is_interrupted(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await kernel.run(CHECKPOINT)
    await kernel.begin(
        "import time\ntry:\n    while True:\n        state['epoch'] += 1; time.sleep(0.01)\n"
        "except KeyboardInterrupt:\n    state['stopped'] = True"
    )
    saved = await save(gpu)
    assert saved["hooks"] == 1
    assert "state" in saved["names"]
    again = await gpu.kernel()
    await again.run("from specola_lab import gpu\nout = gpu.restore()")
    # the hook ran while the loop did; the variables were saved once it had stopped
    assert await again.run("print(state['stopped'], state['epoch'] > 1000)") == "True True\n"


async def test_the_service_is_told_of_a_checkpoint_at_once(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await kernel.run(CHECKPOINT)
    (lease,) = gpu.fake.leases.values()
    await until(lambda: lease["checkpoint"])
    assert (await gpu.kernels())[kernel.id]["hooks"] == 1
    await kernel.run("gpu.checkpoint(save, load)")
    assert gpu.half.registry.links[kernel.id].hooks == 1


async def test_a_kernel_that_does_not_answer_in_time_is_said_so(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    await gpu.kernel()
    (link,) = gpu.half.registry.links.values()
    import os
    import signal

    worker = gpu.fake.workers["lease-1"].pid
    pid = int(Path(f"/proc/{worker}/task/{worker}/children").read_text().split()[0])
    os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), signal.SIGSTOP)
    monkeypatch.setattr("specola_lab.gpu.half.TRAVEL_SLACK", 60.0)
    saved = await gpu.half.save(link, within=0.1)
    assert saved["failed"] == [
        {"name": "*", "why": "The kernel did not let go of Python's lock in time: it could not be saved."}
    ]


async def test_no_more_is_told_of_what_was_saved_than_the_service_takes(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gpu.kernel()
    (link,) = gpu.half.registry.links.values()

    async def ask(*_: object, **__: object) -> dict[str, Any]:
        return {
            "names": ["n" * 999] * 999,
            "failed": [{"name": "n" * 999, "why": "w" * 999}] * 999,
            "hooks": [],
            "size": 1,
        }

    monkeypatch.setattr(link.calls, "ask", ask)
    told = await gpu.half.save(link)
    assert told == {
        "names": ["n" * 256] * 500,
        "failed": [{"name": "n" * 256, "why": "w" * 512}] * 500,
        "hooks": 0,
        "size": 1,
    }
    monkeypatch.undo()


async def test_a_home_that_cannot_be_written_to_is_said_so(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await kernel.run("x = 1")
    (gpu.home / ".local/share/specola").mkdir(parents=True, exist_ok=True)
    (gpu.home / ".local/share/specola/snapshots").write_text("no directory")
    saved = await save(gpu)
    assert saved["names"] == []
    assert saved["failed"][0]["name"] == "*"
    assert "NotADirectoryError" in saved["failed"][0]["why"] or "FileExistsError" in saved["failed"][0]["why"]


async def restore_route(gpu: Gpu, name: str, kernel_id: str) -> tuple[int, dict[str, Any]]:
    url = f"{gpu.url}specola/gpu/snapshots/{name}/restore"
    async with gpu.browser.post(url, json={"kernel_id": kernel_id}) as answer:
        return answer.status, await answer.json()


async def test_the_panel_restores_and_forgets(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await kernel.run("x = 41")
    await save(gpu)
    again = await gpu.kernel()
    assert (await restore_route(gpu, "lease-9", again.id))[0] == 404
    assert (await restore_route(gpu, "lease-1", kernel.id))[0] == 409
    status, said = await restore_route(gpu, "lease-1", again.id)
    assert status == 200
    await again.run(said["code"])
    assert await again.run("print(x + 1)") == "42\n"
    for status in (204, 404):
        async with gpu.browser.delete(gpu.url + "specola/gpu/snapshots/lease-1") as answer:
            assert answer.status == status
    assert (await gpu.get("specola/gpu/snapshots"))["items"] == []


# a home that the kernel does not see


async def away(gpu: Gpu, kind: str) -> None:
    gpu.fake.home = kind
    gpu.fake.worker_home = gpu.fake.place / "elsewhere"
    gpu.fake.worker_home.mkdir(exist_ok=True)


@pytest.mark.parametrize("kind", ["none", "sync"])
async def test_without_a_shared_home_snapshots_travel_there_and_back(gpu: Gpu, kind: str) -> None:
    await away(gpu, kind)
    kernel = await gpu.kernel()
    await kernel.run(CHECKPOINT + "data = bytes(3 * 10**6)\nstate['epoch'] = 2")
    saved = await save(gpu)
    assert "data" in saved["names"]
    assert saved["hooks"] == 1
    manifest = json.loads((gpu.home / ".local/share/specola/snapshots/lease-1/manifest.json").read_text())
    assert manifest["size"] > 3 * 10**6
    assert not (gpu.fake.place / "elsewhere/.specola").exists()
    again = await gpu.kernel()
    assert "gpu.restore('lease-1')" in await again.run("print()")
    await again.run("from specola_lab import gpu\nout = gpu.restore('lease-1')")
    assert await again.run("print(len(data), state)") == "3000000 {'epoch': 1002}\n"


async def test_with_sync_the_working_folder_travels_in_and_what_has_changed_out(gpu: Gpu) -> None:
    await away(gpu, "sync")
    folder = gpu.home / "analysis"
    (folder / "sub").mkdir(parents=True)
    (folder / "cuts.py").write_text("PT = 20")
    (folder / "sub" / "mine.txt").write_text("before")
    (folder / ".secret").write_text("stays")
    gpu.fake.grant()
    name = await gpu.app.kernel_manager.start_kernel(kernel_name="specola-gpu", path="analysis")
    kernel = await gpu.ready(name)
    code = """
import os, pathlib, cuts
pathlib.Path("result.txt").write_text(str(cuts.PT + 1))
pathlib.Path("sub/mine.txt").write_text("there")
print(sorted(os.listdir(".")))
"""
    assert "'.secret'" not in await kernel.run(code)
    (folder / "sub" / "mine.txt").write_text("here, meanwhile")
    await save(gpu)
    assert (folder / "result.txt").read_text() == "21"
    assert (folder / "sub" / "mine.txt").read_text() == "here, meanwhile"
    assert (folder / "sub" / "mine.from-gpu.txt").read_text() == "there"
    assert gpu.half.travels[kernel.id].beside == ["sub/mine.from-gpu.txt"]


async def test_no_file_leaves_on_the_word_of_the_machine_alone(gpu: Gpu) -> None:
    await away(gpu, "sync")
    gpu.fake.says = "none"
    gpu.fake.grant()
    manager = gpu.app.kernel_manager.get_kernel(await gpu.start())
    with pytest.raises(RuntimeError, match="the facility has not said that it may"):
        await manager.ready
    await until(lambda: ("lease-1", "release", {}) in gpu.fake.asked)


async def test_a_working_folder_that_is_gone_is_no_obstacle(gpu: Gpu) -> None:
    await away(gpu, "sync")
    kernel: Client = await gpu.kernel()
    assert await kernel.run("print(1)") == "1\n"
