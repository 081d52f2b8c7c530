"""How full the home is, and what is reported of this server."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lab.conftest import Lab
from lab.fakeapi import FakeFacility, until
from specola_lab import app, home, settings
from specola_lab.activity import Heartbeat
from specola_lab.facility import Facility
from specola_lab.home import HomeUse


async def test_the_home_is_measured_against_its_quota(lab: Lab, monkeypatch) -> None:
    (lab.home / "data").mkdir()
    (lab.home / "data" / "a").write_bytes(b"x" * 100_000)
    use = home.HomeUse(lab.home, 0.001)
    report = await use.report()
    assert report["used"] >= 100_000
    assert report["percent"] == round(100 * report["used"] / report["quota"], 1)
    (lab.home / "data" / "b").write_bytes(b"x" * 100_000)
    assert (await use.report())["used"] == report["used"], "measured again only after five minutes"
    monkeypatch.setattr(home, "EVERY_SECONDS", -1.0)
    monkeypatch.setattr(home, "REST", -1.0)
    await use.report()
    await use._task
    assert use._used > report["used"]
    async with lab.browser.get(lab.url + "specola/home") as answer:
        assert (await answer.json())["percent"] is None


async def test_a_slow_disk_rests_between_measurements(home: Path) -> None:
    use = HomeUse(home, None)
    await use.report()
    use._took, use._measured = 60.0, use._measured - 1000
    use.latest()
    assert use._task.done(), "a minute of measuring, then twenty of rest"
    use._measured -= 300
    use.latest()
    assert not use._task.done()
    await use._task


def test_links_count_once_and_what_vanishes_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 50_000)
    alone = home.measure(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("/usr")
    assert home.measure(tmp_path) <= alone + 4096
    assert home.measure(tmp_path / "a") == 0


def test_a_large_home_is_measured_with_pauses(tmp_path: Path, monkeypatch) -> None:
    for name in range(5):
        (tmp_path / str(name)).touch()
    naps: list[float] = []
    monkeypatch.setattr(home, "PAUSE_EVERY", 2)
    monkeypatch.setattr(home.time, "sleep", naps.append)
    home.measure(tmp_path)
    assert len(naps) == 2


def test_another_file_system_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    entry = next(os.scandir(tmp_path))
    assert home._size(entry, -1, [], set()) == 0
    (tmp_path / "a").unlink()
    assert home._size(next(iter([entry])), 0, [], set()) in (0, 8192)


class Kernels:
    """Two kernels: one runs a cell, one is looked at."""

    async def list_kernels(self):
        return [{"execution_state": "busy", "connections": 0}, {"execution_state": "idle", "connections": 2}]


async def test_the_heartbeat_says_what_runs(facility: FakeFacility, home: Path) -> None:
    facility.serve_scheduler("one")
    link = Facility(settings.from_environment())
    beat = Heartbeat(link, Kernels(), HomeUse(home, None), logging.getLogger("test"))
    await beat.beat()
    counts = {"server": "", "kernels_busy": 1, "kernels_connected": 1, "clusters": 1}
    assert facility.reports == [counts | {"home_used": None}], "nobody waits for the first measurement"
    await beat.home.report()
    await beat.beat()
    assert facility.reports[-1]["home_used"] > 0
    await link.close()
    await link.close()


async def test_the_server_reports_by_itself(lab: Lab) -> None:
    await until(lambda: lab.facility.reports)
    assert lab.facility.reports[0]["kernels_busy"] == 0


async def test_a_refused_or_unheard_report_is_logged_without_the_token(facility, home, caplog) -> None:
    link = Facility(settings.from_environment())
    beat = Heartbeat(link, Kernels(), HomeUse(home, None), logging.getLogger("test"))
    facility.token = "changed"
    await beat.beat()
    await facility.stop()
    await beat.beat()
    assert [record.levelname for record in caplog.records if record.name == "test"] == ["WARNING", "WARNING"]
    assert link.settings.token not in caplog.text
    await beat.stop()
    await link.close()


def test_the_debugger_is_hidden_where_it_is_off() -> None:
    class Specs:
        def get_all_specs(self):
            return {"python3": {"spec": {"metadata": {"debugger": True}}}, "other": {"spec": {}}}

    specs = Specs()
    app.hide_debugger(specs)
    assert [kernel["spec"]["metadata"]["debugger"] for kernel in specs.get_all_specs().values()] == [False, False]


async def test_the_page_is_told_the_name_of_the_facility(lab: Lab) -> None:
    assert lab.app.web_app.settings["page_config_data"]["specolaFacility"] == "cnaf"
