"""`specola-worker` inside a scheduler and a worker of this process."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import httpx
import pytest
from dask_gateway import scheduler_preload
from distributed import Client, Scheduler, Worker
from specola_worker import preload, routes, scheduler


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place far deeper than the 107 bytes that the kernel takes."""
    place = tmp_path / ("deep" * 20) / ("deeper" * 10) / "http.sock"
    monkeypatch.setenv(preload.VARIABLE, str(place))
    return place


@pytest.fixture
async def running(socket: Path) -> AsyncIterator[Scheduler]:
    async with Scheduler(port=0, host="127.0.0.1", dashboard=True) as made:
        yield made
    assert socket.parent.exists()


@pytest.fixture
async def http(running: Scheduler, socket: Path, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    del running
    short = tmp_path / "s"
    short.symlink_to(socket.parent)
    transport = httpx.AsyncHTTPTransport(uds=str(short / socket.name))
    async with httpx.AsyncClient(transport=transport, base_url="http://scheduler") as client:
        yield client


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_http_is_on_the_socket_only(running: Scheduler, http: httpx.AsyncClient, socket: Path) -> None:
    """The socket is 0600 whatever its depth; no service with a port is announced."""
    assert len(os.fsencode(socket)) > 107
    assert mode(socket) == 0o600
    assert mode(socket.parent) == 0o700
    assert "dashboard" not in running.services
    assert (await http.get("/health")).text == "ok"
    assert (await http.get("/status")).status_code == 200
    assert (await http.get("/proxy/1/localhost/")).status_code == 404


async def test_live_numbers(running: Scheduler, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, totals and tasks in a shape of our own."""
    empty = (await http.get("/specola/workers")).json()
    assert empty["workers"] == []
    assert empty["totals"]["workers"] == 0
    assert empty["idle_since"] == running.time_started
    monkeypatch.delenv(preload.VARIABLE)
    async with Worker(running.address, nthreads=1, name="w1", memory_limit="16GB", dashboard=False) as worker:
        assert "dashboard" not in worker.services
        async with Client(running.address, asynchronous=True) as client:
            assert await client.gather(client.map(lambda x: x + 1, range(5))) == [1, 2, 3, 4, 5]
            futures = client.map(lambda x: 1 / x, [0])
            with pytest.raises(ZeroDivisionError):
                await client.gather(futures)
            waiting = client.submit(lambda: 1, workers=["tcp://127.0.0.1:1"])
            while not running.unrunnable:  # noqa: ASYNC110 - the scheduler changes it
                await asyncio.sleep(0.01)
            busy = (await http.get("/specola/workers")).json()
            del waiting
    (only,) = busy["workers"]
    assert only["name"] == "w1"
    assert only["host"] == "127.0.0.1"
    assert only["memory_limit"] == 16_000_000_000
    assert set(routes.SUMMED) <= set(only)
    assert busy["totals"]["nthreads"] == 1
    assert busy["tasks"]["processed"] == 5
    assert busy["tasks"]["erred"] == 1
    assert busy["tasks"]["waiting"] == 1
    assert busy["idle_since"] is None


async def test_idle_since_the_last_work(running: Scheduler) -> None:
    async with Worker(running.address, nthreads=1), Client(running.address, asynchronous=True) as client:
        await client.submit(lambda: 1)
        assert routes.idle_since(running) == pytest.approx(running.transition_log[-1][-1])


def test_install_twice_changes_nothing() -> None:
    before = dask.config.get("distributed.scheduler.http.routes")
    preload.install()
    assert dask.config.get("distributed.scheduler.http.routes") == before
    assert preload.OPEN_PROXY not in before


def test_every_line_of_the_log_names_the_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    logger = logging.getLogger("distributed")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setenv(preload.REQUEST, "r42")
    preload.install()
    handler.handle(logging.LogRecord("distributed.core", logging.INFO, "", 0, "hello", None, None))
    assert "INFO distributed.core [req=r42] hello" in capsys.readouterr().err


class FakeClient:
    """dask-gateway's client inside a scheduler, without a gateway."""

    token = "t"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.ended = 0
        self.away = False

    async def heartbeat(self, message: dict[str, Any]) -> None:
        if self.away:
            raise OSError
        self.sent.append(message)

    async def shutdown(self) -> None:
        self.ended += 1


@pytest.fixture
async def service(
    running: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[scheduler.SchedulerService, FakeClient]]:
    monkeypatch.setenv(scheduler.WORKERS, "3")
    client = FakeClient()
    made = scheduler.SchedulerService(running, gateway=client, heartbeat_period=0.05, idle_timeout=0.2)
    yield made, client
    made.stop()


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another task changes it
            await asyncio.sleep(0.02)


async def test_the_scheduler_service_is_ours() -> None:
    """dask-gateway's preload makes ours, since it looks the class up when it runs."""
    assert scheduler_preload.GatewaySchedulerService is scheduler.SchedulerService
    assert scheduler.dask_setup is scheduler_preload.dask_setup


async def test_heartbeats_carry_our_report(
    running: Scheduler, service: tuple[scheduler.SchedulerService, FakeClient]
) -> None:
    """It asks for the workers that the cluster was made with, and reports no dashboard port."""
    made, client = service
    made.idle_timeout = 0
    made.listen(("127.0.0.1", 0))
    await until(lambda: client.sent)
    first = client.sent[0]
    assert first["count"] == 3
    assert first["dashboard_address"] == ""
    assert first["specola"] == {"adaptive": None, "idle_since": running.time_started, "ending": ""}
    await made.adapt(minimum=1, maximum=2)
    assert made.report()["adaptive"] == {"minimum": 1, "maximum": 2}
    made.minimum = None
    assert made.report()["adaptive"] == {"minimum": 0, "maximum": 2}
    async with Worker(running.address, nthreads=1):
        assert made.waiter.timer is not None


async def test_an_idle_cluster_says_so_and_tries_again(
    service: tuple[scheduler.SchedulerService, FakeClient],
) -> None:
    """A gateway that is away at that moment is asked again; upstream's loop would have died."""
    made, client = service
    client.away = True
    made.listen(("127.0.0.1", 0))
    await asyncio.sleep(0.6)
    assert client.ended == 0
    assert made.gateway.ending == ""
    client.away = False
    await until(lambda: client.ended)
    assert client.sent[-1]["specola"]["ending"] == "No work for 0 s."


def test_a_worker_that_never_reported_is_described() -> None:
    worker = SimpleNamespace(
        name=0, address="tls://127.0.0.1:5", nthreads=2, memory_limit=None, metrics={}, executing={}, processing={}
    )
    assert routes.describe(worker)["memory_limit"] == 0
