"""A GPU kernel whose worker is a job of a real HTCondor or Slurm: it dials out to a real user server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lab.fakeservice import TOKEN, FakeGpu
from lab.gpurig import Gpu, running
from launching import Place, launcher
from specola.gpu.model import Work

from gpu.siterig import Site, condor_site, slurm_site

pytestmark = pytest.mark.needs_root


class AtSite(FakeGpu):
    """The service's half, with a site's runner instead of processes of its own."""

    site: Site

    def start_worker(self, name: str) -> Any:
        work = Work(name, "anna", "a100", "3g", 3600, self.orders[name], {"SPECOLA_GPU_LEASE": name})
        self.started = asyncio.get_running_loop().create_task(self.site.send(work))


@pytest.fixture(scope="module")
def here() -> Iterator[Place]:
    with launcher() as place:
        yield place


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the user's server, which is the test's own account; the jobs do not see it."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name))
    return place


@pytest_asyncio.fixture(params=["htcondor", "slurm"])
async def gpu(
    request: pytest.FixtureRequest, here: Place, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gpu]:
    pool = request.getfixturevalue(request.param)
    service = AtSite(tmp_path, home="none")
    service.site = condor_site(pool, here) if request.param == "htcondor" else slurm_site(pool, here)
    service.site.runner = service.site.again(python=sys.executable)
    monkeypatch.setenv("SPECOLA_API_URL", await service.start())
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    async with running(service, home) as rig:
        yield rig
    await service.site.stopped()
    await service.stop()


async def test_a_cell_runs_in_the_job_under_the_persons_account(gpu: Gpu) -> None:
    kernel = await gpu.kernel()
    said = await kernel.run("import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, os.environ['SPECOLA_GPU_LEASE'])")
    account = await gpu.fake.site.account()
    assert said == f"{account.name} lease-1\n"
    assert await asyncio.to_thread(gpu.fake.site.profile, "lease-1") == "3g.40gb"
