"""A GPU kernel: a real jupyter-server, a real worker, and one websocket between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lab.fakeservice import TOKEN, FakeGpu
from lab.gpurig import Gpu, running, until


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name))
    return place


@pytest_asyncio.fixture
async def fake(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGpu]:
    service = FakeGpu(tmp_path)
    address = await service.start()
    monkeypatch.setenv("SPECOLA_API_URL", address)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    yield service
    await service.stop()
    service.end_workers()


@pytest_asyncio.fixture
async def gpu(fake: FakeGpu, home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gpu]:
    async with running(fake, home) as rig:
        fake.through = lambda url: url.replace(f":{fake.port}/", f":{rig.url.split(':')[2].split('/')[0]}/")
        yield rig


async def test_a_cell_runs_where_the_slice_is(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    assert await kernel.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.getpid() != os.getppid())") == (
        "MIG-simulated True\n"
    )
    (lease,) = gpu.fake.leases.values()
    await until(lambda: lease["state"] == "active")
    assert (await gpu.kernels())[kernel.id]["state"] == "ready"
