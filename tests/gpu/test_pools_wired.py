"""Which actuator and runner a pool of the facility file gets, and what is left when a facility is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from apirig import runtime_for
from fakehub import FakeHub
from specola.cli import run
from specola.core.layout import Layout
from specola.facility.model import Facility
from specola.facility.runtime import Runtime
from specola.gpu.adapters.profiles import models
from specola.gpu.state import Slot
from specola.server.gpus import _pool, free_slices

from gpu.fakenvml import FakeNvml, beneath

H100 = models()["H100-80GB"]
KINDS = {
    "simulated": {"actuator": "simulated", "model": "A100-40GB"},
    "impossible": {"actuator": "simulated", "model": "A100-40GB", "layout": ["7g", "1g"]},
    "nvml": {"actuator": "nvml", "model": "H100-80GB", "create": True},
    "condor": {"actuator": "condor", "model": "A100-40GB", "home": "shared"},
    "slurm": {"actuator": "slurm", "model": "H100-80GB"},
    "cloud": {"actuator": "mig-parted", "model": "H100-80GB"},
}


@pytest.fixture
async def runtime(tmp_path: Path) -> Runtime:
    hub = FakeHub()
    made = runtime_for(tmp_path, hub, Facility.model_validate({"gpu": {"pools": KINDS}}))
    await hub.stop()
    return made


async def test_every_kind_of_pool_is_what_it_can_be_here(runtime: Runtime) -> None:
    pools = {name: _pool(runtime, name, section) for name, section in runtime.facility.gpu.pools.items()}
    sites = {name: pool.runner.site for name, pool in pools.items() if pool.runner is not None}
    assert sites == {"simulated": "this machine", "nvml": "this machine", "condor": "HTCondor", "slurm": "Slurm"}
    assert [name for name, pool in pools.items() if pool.places] == ["simulated", "nvml"]
    assert [name for name, pool in pools.items() if pool.simulated] == ["simulated", "impossible"]
    assert {name: pool.home for name, pool in pools.items() if not pool.closed} == {
        "simulated": "shared",
        "nvml": "shared",
        "condor": "shared",
        "slurm": "none",
    }
    assert "do not fit" in pools["impossible"].closed
    assert "Kubernetes" in pools["cloud"].closed


async def test_a_stopped_facility_holds_no_part_of_a_gpu(runtime: Runtime) -> None:
    fake = FakeNvml(H100, 1)
    with beneath(fake):
        pool = _pool(runtime, "nvml", runtime.facility.gpu.pools["nvml"])
        assert pool.actuator is not None
        fake.gpus[0].mig = fake.gpus[0].pending = True
        (card,) = await pool.actuator.cards()
        await pool.actuator.make(Slot(card.id, 0, 1), "1g", "a-lease")
        assert len((await pool.actuator.cards())[0].instances) == 1
        assert await free_slices(runtime) == []
        assert (await pool.actuator.cards())[0].instances == ()


async def test_what_cannot_be_freed_is_said(runtime: Runtime) -> None:
    with beneath(None):
        (why,) = await free_slices(runtime)
    assert why.startswith("nvml: ")


def test_stopping_says_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "state")
    layout.state.mkdir()
    layout.run.mkdir()
    facility = Facility.model_validate({"gpu": {"pools": {"nvml": KINDS["nvml"]}}})
    monkeypatch.setattr(run.supervisor, "stop", lambda _runtime: [])
    with beneath(None):
        run.halt(Runtime(layout, facility, None))  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert "Stopped." in said.out
    assert "Slices are left on GPUs of the pool nvml" in said.err
