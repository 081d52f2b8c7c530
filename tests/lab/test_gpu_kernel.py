"""The life of a GPU kernel: a real jupyter-server, a real worker, and one websocket between them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from lab.fakeservice import FakeGpu
from lab.gpurig import PATIENCE, Gpu, running, until
from specola_lab.gpu.lessor import HOW_TO_ASK


def one_lease(gpu: Gpu) -> dict[str, object]:
    (lease,) = gpu.fake.leases.values()
    return lease


async def dead(gpu: Gpu, name: str) -> dict[str, object]:
    """What the panel says once a kernel is over."""

    async def ended() -> bool:
        return (await gpu.kernels())[name]["state"] == "ended"

    await until(ended, what="the kernel's end")
    return (await gpu.kernels())[name]


async def test_a_cell_runs_where_the_slice_is_and_the_clock_starts_when_the_kernel_is_ready(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    said = await kernel.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['SPECOLA_GPU_LEASE'])")
    assert said == "MIG-simulated lease-1\n"
    await until(lambda: one_lease(gpu)["state"] == "active")
    told = (await gpu.kernels())[kernel.id]
    assert (told["state"], told["lease"], told["simulated"], told["home"]) == ("ready", "lease-1", True, "shared")
    assert told["gpu"]["model"] == "A100-40GB"
    started = [body for _, action, body in gpu.fake.asked if action == "kernel"]
    assert {body["secret"] for body in started} == {started[0]["secret"]}
    assert len(started[0]["secret"]) >= 43


async def test_nothing_of_a_gpu_kernel_listens_on_a_port(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    code = """
import os, pathlib
places = [one for pid in (os.getpid(), os.getppid()) for one in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
links = [os.readlink(place) for place in places if os.path.lexists(place)]
inodes = {link[8:-1] for link in links if link.startswith("socket:")}
tables = [pathlib.Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6", "udp", "udp6")]
rows = [row.split() for table in tables for row in table.splitlines()[1:]]
print([row[1] for row in rows if row[9] in inodes and row[3] in ("0A", "07")])
"""
    assert await kernel.run(code) == "[]\n"
    directory = await kernel.run("import os; print(oct(os.stat(os.environ['JUPYTER_RUNTIME_DIR']).st_mode & 0o777))")
    assert directory == "0o700\n"
    assert gpu.half.registry.links[kernel.id].front.directory.stat().st_mode & 0o777 == 0o700


async def test_what_a_forked_child_prints_arrives(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    code = "import os\nif not (pid := os.fork()):\n    print('child', flush=True)\n    os._exit(0)\nos.waitpid(pid, 0)"
    message = kernel.send(code)
    said = ""
    while "child" not in said:
        one = await kernel.client.get_iopub_msg(timeout=60)
        if one["parent_header"].get("msg_id") == message and one["msg_type"] == "stream":
            said += one["content"]["text"]


async def test_a_running_cell_is_interrupted(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    message = await kernel.begin("import time\ntime.sleep(600)")
    async with gpu.browser.post(f"{gpu.url}api/kernels/{kernel.id}/interrupt") as answer:
        assert answer.status == 204
    with pytest.raises(AssertionError, match="KeyboardInterrupt"):
        await kernel.finish(message)
    assert await kernel.run("print(6 * 7)") == "42\n"


async def test_a_cell_asks_and_gets_an_answer(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    message = kernel.client.execute("print(input('name? '))", allow_stdin=True)
    asked = await kernel.client.get_stdin_msg(timeout=60)
    assert asked["content"]["prompt"] == "name? "
    kernel.client.input("anna")
    assert await kernel.finish(message) == "anna\n"


async def test_fifty_megabytes_of_output_arrive_unchanged(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    code = """
import hashlib, random
seen = hashlib.sha256()
for number in range(500):
    line = f"{number} " + random.Random(number).randbytes(50_000).hex()
    seen.update(line.encode() + b"\\n")
    print(line)
digest = seen.hexdigest()
"""
    said = await kernel.run(code)
    assert len(said) > 50_000_000
    assert await kernel.run("print(digest)") == hashlib.sha256(said.encode()).hexdigest() + "\n"


async def test_many_small_outputs_arrive_in_order(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    said = await kernel.run("import sys\nfor number in range(5000):\n    print(number); sys.stdout.flush()")
    assert [int(line) for line in said.split()] == list(range(5000))


async def test_the_heart_beats_and_stops_with_the_worker(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    assert await until(kernel.client.hb_channel.is_beating)


async def test_a_restart_stays_on_the_lease(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await kernel.run("x = 1")
    before = gpu.half.registry.links[kernel.id].pid
    async with gpu.browser.post(f"{gpu.url}api/kernels/{kernel.id}/restart") as answer:
        assert answer.status == 200
    # a pending kernel's restart is answered before it is done
    await until(lambda: gpu.half.registry.links[kernel.id].pid not in {before, None}, what="the new kernel")
    # as a browser does: what is printed before somebody listens is lost, in every kernel
    await kernel.client.wait_for_ready(timeout=PATIENCE)
    assert (await kernel.run("'x' in globals()")) == "False"
    assert len(gpu.fake.workers) == 1
    assert [action for _, action, _ in gpu.fake.asked if action == "release"] == []


async def test_a_kernel_that_crashed_is_started_again_on_its_lease(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    before = gpu.half.registry.links[kernel.id].pid
    kernel.send("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    await until(lambda: gpu.half.registry.links[kernel.id].pid not in {before, None})
    await kernel.client.wait_for_ready(timeout=PATIENCE)
    assert await kernel.run("print('again')") == "again\n"


async def test_what_a_kernel_started_ends_with_it(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    said = await kernel.run("import subprocess; print(subprocess.Popen(['sleep', '600']).pid)")
    async with gpu.browser.post(f"{gpu.url}api/kernels/{kernel.id}/restart") as answer:
        assert answer.status == 200
    await until(lambda: not Path(f"/proc/{int(said)}").exists() or _is_zombie(int(said)), what="the end of sleep")


def _is_zombie(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


async def test_a_kernel_that_is_shut_down_gives_its_lease_back(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    async with gpu.browser.delete(f"{gpu.url}api/kernels/{kernel.id}") as answer:
        assert answer.status == 204
    await until(lambda: ("lease-1", "release", {}) in gpu.fake.asked)
    # there is nothing left to save, and the service is told so at once
    await until(lambda: one_lease(gpu)["state"] == "ended")
    await until(lambda: gpu.fake.workers["lease-1"].poll() == 0, what="the worker's end")
    assert (await dead(gpu, kernel.id))["reason"] == "It was shut down."


async def test_without_a_lease_it_says_how_to_ask(gpu: Gpu) -> None:
    name = await gpu.start()
    manager = gpu.app.kernel_manager.get_kernel(name)
    with pytest.raises(RuntimeError, match="You hold no GPU"):
        await manager.ready
    assert manager.reason == HOW_TO_ASK
    assert gpu.fake.asked == []


async def test_a_lease_that_is_over_is_said_to_be(gpu: Gpu) -> None:
    lease = gpu.fake.grant()
    gpu.fake.become(lease, "ended", cause="term", reason="")
    for wanted, words in {"lease-1": "time of its GPU lease was over", "lease-99": "No such lease"}.items():
        name = await gpu.app.kernel_manager.start_kernel(
            kernel_name="specola-gpu", env={**os.environ, "SPECOLA_GPU_LEASE": wanted}
        )
        with pytest.raises(RuntimeError, match=words):
            await gpu.app.kernel_manager.get_kernel(name).ready


async def test_a_lease_has_one_kernel(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await until(lambda: one_lease(gpu)["state"] == "active")
    name = await gpu.app.kernel_manager.start_kernel(
        kernel_name="specola-gpu", env={**os.environ, "SPECOLA_GPU_LEASE": "lease-1"}
    )
    with pytest.raises(RuntimeError, match="has its kernel already"):
        await gpu.app.kernel_manager.get_kernel(name).ready
    assert await kernel.run("print(1)") == "1\n"


async def test_outside_of_a_facility_it_says_where_it_starts(home: Path) -> None:
    from jupyter_client.manager import AsyncKernelManager

    manager = AsyncKernelManager(kernel_name="specola-gpu")
    KernelProvisionerFactory.clear_instance()
    with pytest.raises(RuntimeError, match="in a JupyterLab that a facility has started"):
        await manager.start_kernel()


async def test_while_the_site_has_no_room_the_kernel_is_pending_with_the_sites_reason(gpu: Gpu) -> None:
    gpu.fake.starts = False
    gpu.fake.grant()
    begun = time.monotonic()
    name = await gpu.start()
    manager = gpu.app.kernel_manager.get_kernel(name)
    await until(lambda: manager.reason == "The site has no free slot yet.")
    told = (await gpu.kernels())[name]
    assert (told["state"], told["reason"]) == ("waiting", "The site has no free slot yet.")
    # whatever takes long, other requests do not wait for it
    await gpu.get("api/kernels")
    assert not manager.ready.done()
    gpu.fake.start_worker("lease-1")
    kernel = await gpu.ready(name)
    assert await kernel.run("print(1)") == "1\n"
    assert manager.reason == ""
    assert time.monotonic() > begun


async def test_a_pending_kernel_can_be_given_up(gpu: Gpu) -> None:
    gpu.fake.starts = False
    gpu.fake.grant()
    name = await gpu.start()
    await until(lambda: gpu.fake.orders)
    async with gpu.browser.delete(f"{gpu.url}api/kernels/{name}") as answer:
        assert answer.status == 204
    await until(lambda: ("lease-1", "release", {}) in gpu.fake.asked)

    async def gone() -> bool:
        return name not in [one["id"] for one in await gpu.get("api/kernels")]

    await until(gone)


async def test_a_lease_that_ends_while_the_site_starts_it_ends_the_kernel(gpu: Gpu) -> None:
    gpu.fake.starts = False
    lease = gpu.fake.grant()
    name = await gpu.start()
    await until(lambda: gpu.fake.orders)
    gpu.fake.become(lease, "ended", reason="The site has refused the job: no account.")
    manager = gpu.app.kernel_manager.get_kernel(name)
    with pytest.raises(RuntimeError, match="no account"):
        await manager.ready
    assert manager.reason == "The site has refused the job: no account."


async def test_what_the_service_refuses_is_told_in_its_words(gpu: Gpu) -> None:
    gpu.fake.grant()
    gpu.fake.refuse["kernel"] = (409, "This lease has changed hands", "Somebody renewed it elsewhere.")
    manager = gpu.app.kernel_manager.get_kernel(await gpu.start())
    with pytest.raises(RuntimeError, match="This lease has changed hands: Somebody renewed it elsewhere"):
        await manager.ready


async def test_a_service_that_is_away_for_a_while_is_waited_for(gpu: Gpu) -> None:
    gpu.fake.grant()
    gpu.fake.refuse["kernel"] = (503, "Restarting", "")
    name = await gpu.start()
    link = await until(lambda: gpu.half.registry.links.get(name))
    await asyncio.sleep(0)
    assert link.state == "waiting"
    gpu.fake.refuse.clear()
    kernel = await gpu.ready(name)
    assert await kernel.run("print(1)") == "1\n"


async def test_a_confirmation_that_does_not_arrive_is_repeated(gpu: Gpu) -> None:
    gpu.fake.refuse["confirm"] = (503, "Restarting", "")
    await gpu.kernel()
    gpu.fake.refuse.clear()
    await until(lambda: one_lease(gpu)["state"] == "active")


async def test_a_server_that_stops_leaves_no_worker(service: FakeGpu, home: Path) -> None:
    async with running(service, home) as rig:
        kernel = await rig.kernel()
        await kernel.run("treasure = 7")
    await until(lambda: service.workers["lease-1"].poll() is not None, what="the worker's end")
    assert service.workers["lease-1"].returncode == 0
    assert service.leases["lease-1"]["cause"] == "released"
    # nobody asked for it, and it is saved all the same
    manifest = json.loads((home / ".local/share/specola/snapshots/lease-1/manifest.json").read_text())
    assert "treasure" in manifest["names"]


async def test_without_a_shared_home_a_server_that_stops_fetches_what_can_be_saved_first(
    service: FakeGpu, home: Path
) -> None:
    service.home = "none"
    async with running(service, home) as rig:
        kernel = await rig.kernel()
        await kernel.run("treasure = 7")
    assert (
        "treasure" in json.loads((home / ".local/share/specola/snapshots/lease-1/manifest.json").read_text())["names"]
    )


async def test_a_worker_that_is_killed_takes_its_kernel_with_it_and_the_lease_is_told(gpu: Gpu) -> None:
    gpu.half.grace = 0.2
    kernel = await gpu.kernel()
    pid = int(await kernel.run("import os; print(os.getpid())"))
    gpu.fake.workers["lease-1"].send_signal(signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{pid}").exists(), what="the kernel's end")
    told = await dead(gpu, kernel.id)
    assert "could not be reached" in str(told["reason"])
    assert kernel.manager.execution_state == "dead"
    assert kernel.manager.reason == told["reason"]
    assert kernel.id not in gpu.app.kernel_manager
