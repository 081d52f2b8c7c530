"""What a server does on its own for GPU leases: starts, reports, saves, and says why a kernel is over."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab.fakeservice import FakeGpu
from lab.gpurig import Gpu, running, until
from specola_lab.gpu import watcher


def actions(gpu: Gpu, kind: str) -> list[dict[str, Any]]:
    return [body for _, action, body in gpu.fake.asked if action == kind]


async def test_what_a_kernel_does_is_reported_when_it_changes(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    await until(lambda: actions(gpu, "activity"))
    message = await kernel.begin("import time; time.sleep(600)")
    await until(lambda: actions(gpu, "activity")[-1]["kernel"] == "busy")
    await kernel.manager.interrupt_kernel()
    with pytest.raises(AssertionError):
        await kernel.finish(message)
    await until(lambda: actions(gpu, "activity")[-1]["kernel"] == "idle")
    # a cell that came and went between two reports has moved the time since when it is idle
    before = actions(gpu, "activity")[-1]["since"]
    await kernel.run("1")
    await until(lambda: actions(gpu, "activity")[-1]["since"] > before)
    reports = actions(gpu, "activity")
    assert {report["token"] for report in reports} == {101}
    assert [report["since"] for report in reports] == sorted(report["since"] for report in reports)


async def test_what_a_kernel_does_is_repeated_with_the_time_since_when(
    service: FakeGpu,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watcher, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(watcher, "SOON_SECONDS", 0.0)
    async with running(service, home) as rig:
        await rig.kernel()
        await until(lambda: len(actions(rig, "activity")) > 5)
        last = actions(rig, "activity")[-3:]
        assert {report["kernel"] for report in last} == {"idle"}
        assert len({report["since"] for report in last}) == 1


async def test_without_a_kernel_nothing_is_asked_of_the_service(gpu: Gpu) -> None:
    gpu.fake.grant()
    watching = gpu.app.web_app.settings["specola_gpu_watcher"]
    await until(lambda: "lease-1" in gpu.half.leases.known)
    assert gpu.fake.asked == []
    assert len(watching._tasks) == 2


async def test_a_granted_lease_starts_its_kernel_with_no_browser_open(gpu: Gpu) -> None:
    lease = gpu.fake.grant(on_grant="kernel")
    await until(lambda: lease["state"] == "active")
    (told,) = (await gpu.kernels()).values()
    (model,) = await gpu.get("api/kernels")
    assert (model["id"], model["name"]) == (told["kernel_id"], "specola-gpu")
    # told of again, it is not started again
    gpu.fake.tell({**lease, "state": "offered"})
    kernel = await gpu.ready(model["id"])
    assert await kernel.run("print(1)") == "1\n"
    assert len(await gpu.get("api/kernels")) == 1


async def test_a_lease_that_was_granted_while_nobody_listened_is_found(
    service: FakeGpu,
    home: Path,
) -> None:
    lease = service.grant(on_grant="kernel")
    async with running(service, home):
        await until(lambda: lease["state"] == "active")


async def test_a_lease_of_a_server_is_left_alone(gpu: Gpu) -> None:
    lease = gpu.fake.grant(on_grant="kernel")
    lease["server"] = ""
    other = gpu.fake.grant(on_grant="kernel")
    await until(lambda: other["state"] == "active")


def notebook(path: Path, *cells: str) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)


def outputs(path: Path) -> list[str]:
    return [
        output.get("text") or output.get("ename") for cell in nbformat.read(path, 4).cells for output in cell.outputs
    ]


async def test_a_notebook_is_run_to_its_end_saved_in_place_and_its_lease_given_back(gpu: Gpu) -> None:
    (gpu.home / "work").mkdir()
    path = gpu.home / "work" / "train.ipynb"
    notebook(path, "import os; print(os.getcwd())", "print(os.environ['SPECOLA_GPU_LEASE'])")
    path.chmod(0o640)
    lease = gpu.fake.grant(on_grant="notebook", notebook="work/train.ipynb")
    await until(lambda: lease["state"] == "ended", what="the notebook's end")
    assert outputs(path) == [f"{gpu.home}/work\n", "lease-1\n"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert ("lease-1", "release", {}) in gpu.fake.asked


async def test_a_notebook_that_fails_keeps_its_error_and_gives_its_lease_back(gpu: Gpu) -> None:
    path = gpu.home / "wrong.ipynb"
    notebook(path, "print('before')", "1 / 0", "print('after')")
    lease = gpu.fake.grant(on_grant="notebook", notebook="wrong.ipynb")
    await until(lambda: lease["state"] == "ended", what="the notebook's end")
    assert outputs(path) == ["before\n", "ZeroDivisionError"]


@pytest.mark.parametrize("path", ["gone.ipynb", "../outside.ipynb"])
async def test_a_notebook_that_is_not_in_the_home_gives_its_lease_back(
    gpu: Gpu, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (gpu.home.parent / "outside.ipynb").write_text("{}")
    lease = gpu.fake.grant(on_grant="notebook", notebook=path)
    await until(lambda: lease["state"] == "ended")
    assert "There is no notebook" in caplog.text


async def test_a_kernel_that_cannot_start_is_told_in_the_log(gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    gpu.fake.refuse["kernel"] = (409, "This lease has changed hands", "")
    gpu.fake.grant(on_grant="kernel")
    await until(lambda: "what was to be done when lease lease-1 was granted failed" in caplog.text)


async def test_a_lease_that_ended_takes_its_kernel_with_it_and_says_why(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    (lease,) = gpu.fake.leases.values()
    gpu.fake.become(lease, "ended", cause="drained")

    async def told() -> bool:
        return (await gpu.kernels())[kernel.id]["reason"] == "Its GPU is taken out of service."

    await until(told)
    assert kernel.manager.execution_state == "dead"
    await until(lambda: gpu.fake.workers["lease-1"].poll() == 0)


async def test_a_browser_that_shows_the_kernel_sees_it_die(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    url = f"{gpu.url}api/kernels/{kernel.id}/channels?session_id=x"
    async with gpu.browser.ws_connect(url) as socket:
        gpu.fake.become(next(iter(gpu.fake.leases.values())), "ended", cause="term")
        async with asyncio.timeout(60):
            async for message in socket:
                said = json.loads(message.data)
                if said["msg_type"] == "status" and said["content"]["execution_state"] == "dead":
                    return
    pytest.fail("nobody said that it is dead")


async def test_a_stream_that_breaks_is_opened_again_and_misses_nothing(gpu: Gpu) -> None:
    await gpu.kernel()
    (lease,) = gpu.fake.leases.values()
    await until(lambda: lease["state"] == "active")
    gpu.fake.hang_up()
    gpu.fake.become(lease, "saving", cause="term")
    await until(lambda: lease["state"] == "ended")


async def test_a_service_that_restarts_is_found_again(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PAUSES", (0.01,))
    await gpu.kernel()
    (lease,) = gpu.fake.leases.values()
    await until(lambda: lease["state"] == "active")
    port = gpu.fake.port
    await gpu.fake.stop()
    await asyncio.sleep(0.05)
    await gpu.fake.start(port)
    gpu.fake.become(lease, "saving", cause="term")
    await until(lambda: lease["state"] == "ended")


async def test_events_that_were_missed_are_made_up_for_by_reading_the_leases(gpu: Gpu) -> None:
    lease = gpu.fake.grant()
    await until(lambda: "lease-1" in gpu.half.leases.known)
    lease["reason"] = "changed without an event"
    gpu.fake.tell({}, "resync")
    await until(lambda: gpu.half.leases.known["lease-1"]["reason"])


async def test_an_event_too_long_to_read_does_not_end_the_listening(gpu: Gpu) -> None:
    lease = gpu.fake.grant()
    await until(lambda: "lease-1" in gpu.half.leases.known)
    gpu.fake.tell({**lease, "notebook": "x" * 2**20})
    lease["reason"] = "read anew"
    await until(lambda: gpu.half.leases.known["lease-1"]["reason"] == "read anew")
    gpu.fake.become(lease, "offered", reason="heard again")
    await until(lambda: gpu.half.leases.known["lease-1"]["reason"] == "heard again")


async def test_a_facility_that_does_not_let_this_server_read_is_not_asked_again_soon(
    service: FakeGpu,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "another")
    async with running(service, home) as rig:
        watching = rig.app.web_app.settings["specola_gpu_watcher"]
        assert await watching._listen() == watcher.NO_SCOPE_SECONDS
        await watching.half.leases.change(0.01)


async def test_what_was_saved_and_cannot_be_told_is_logged(gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    await gpu.kernel()
    (lease,) = gpu.fake.leases.values()
    gpu.fake.refuse["saved"] = (503, "Restarting", "")
    gpu.fake.become(lease, "saving", cause="term")
    await until(lambda: "what was saved could not be told" in caplog.text)
    gpu.fake.refuse.clear()
    gpu.fake.become(lease, "saving", cause="term")
    await until(lambda: lease["state"] == "ended")


async def test_the_panel_is_told_what_of_a_folder_would_travel(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specola_worker.kernel.carry.LIMIT", 100)
    (gpu.home / "a").mkdir()
    (gpu.home / "a" / "small").write_bytes(bytes(10))
    (gpu.home / "a" / "large").write_bytes(bytes(1000))
    told = await gpu.get("specola/gpu/folder?path=a")
    assert told == {
        "files": 1,
        "bytes": 10,
        "limit": 100,
        "left_out": [{"name": "large", "why": "no room left within the limit"}],
        "left_out_files": 1,
    }
    for path in ("..", "nowhere", "a/small"):
        async with gpu.browser.get(f"{gpu.url}specola/gpu/folder", params={"path": path}) as answer:
            assert answer.status == 404


async def test_nobody_without_a_login_reads_or_changes_anything(gpu: Gpu) -> None:
    import aiohttp

    rules = {
        "kernels": "GET",
        "snapshots": "GET",
        "folder": "GET",
        "snapshots/a": "DELETE",
        "snapshots/a/restore": "POST",
    }
    async with aiohttp.ClientSession() as stranger:
        for path, method in rules.items():
            async with stranger.request(method, f"{gpu.url}specola/gpu/{path}") as answer:
                assert answer.status == 403
