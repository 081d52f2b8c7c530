"""`from specola_lab import scaleout`, against a real Dask scheduler that speaks TLS as the gateway's do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import pytest
from dask_gateway_server.tls import new_keypair
from distributed import LocalCluster
from distributed.security import Security
from lab.fakeapi import FakeFacility
from running import wait_for
from specola_lab import _api, _cards, scaleout
from specola_lab.scaleout import ScaleoutError


@dataclass
class Place:
    """A facility in a thread of its own."""

    fake: FakeFacility
    loop: asyncio.AbstractEventLoop

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def create(self, workers: int) -> dict[str, Any]:
        async def make() -> dict[str, Any]:
            return self.fake.create({"workers": workers})

        return self.run(make())


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, dict[str, Any]]]:
    cert, key = new_keypair("dask-gateway")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "crt").write_bytes(cert)
    (folder / "key").write_bytes(key)
    pair = {"cert": str(folder / "crt"), "key": str(folder / "key")}
    files = {f"tls_{who}_{what}": path for who in ("scheduler", "worker", "client") for what, path in pair.items()}
    security = Security(tls_ca_file=str(folder / "crt"), require_encryption=True, **files)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, security=security, protocol="tls://", dashboard_address=":0"
    ) as real:
        tls = {"tls_cert": cert.decode(), "tls_key": key.decode()}
        yield real, tls | {"options": {"specola": {"address": real.scheduler_address}}}


@pytest.fixture
def place(home: Path, scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    here = Place(FakeFacility(home), loop)
    monkeypatch.setenv("SPECOLA_API_URL", here.run(here.fake.start()))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", here.fake.token)
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/anna/")
    here.fake.report = scheduler[1]
    monkeypatch.setattr(scaleout, "DIAL_SECONDS", 60)
    gateway = {
        "distributed.comm.timeouts.connect": "60s",
        "gateway.address": f"http://127.0.0.1:{here.fake.port}/gateway",
        "gateway.auth.type": "jupyterhub",
    }
    with dask.config.set(gateway | {"gateway.proxy-address": "gateway://127.0.0.1:1"}):
        yield here
    here.run(here.fake.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_cluster_computes_and_is_stopped(place: Place) -> None:
    with scaleout.cluster(workers=2) as cluster:
        assert cluster.wait().client.submit(lambda: 6 * 7).result() == 42
        assert cluster.client is cluster.client
        assert cluster.scheduler_address.startswith("tls://"), "straight to the scheduler"
        assert cluster.dashboard_link == f"/user/anna/specola/clusters/{cluster.name}/dashboard/status"
        assert "2 workers" in repr(cluster)
    assert place.fake.clusters[cluster.name]["status"] == "stopped"
    cluster.stop()


def test_the_card_has_live_numbers(place: Place) -> None:
    cluster = scaleout.cluster(workers=2)
    card = cluster._repr_html_()
    assert "2 of 2 workers · 2 threads" in card
    assert "GiB memory" in card
    assert "dashboard/status" in card
    cluster.stop()
    assert "workers ·" not in cluster._repr_html_()


def test_a_card_in_a_notebook_renews_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setattr(scaleout, "REFRESH_SECONDS", 0.05)
    views: list[Any] = []
    make = _cards.widget
    monkeypatch.setattr(_cards, "widget", lambda card: views.append(make(card)) or views[-1])
    cluster = scaleout.cluster(workers=1)
    cluster._ipython_display_()
    assert set(shown[0]) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    cluster.scale(2)
    wait_for(lambda: "of 2 workers" in views[0].value, 120, "the numbers")
    cluster.stop()
    wait_for(lambda: "closed" in views[0].value, 120, "the end")


def test_a_card_without_ipywidgets_is_plain(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    cluster = scaleout.cluster(workers=1)
    cluster._ipython_display_()
    assert set(shown[0]) == {"text/plain", "text/html"}
    cluster.stop()


def test_nobody_holds_a_cluster_that_is_forgotten() -> None:
    class Forgotten:
        status = "running"

    view = type("View", (), {"value": ""})()
    _cards.keep_fresh(Forgotten(), view, 0.01)
    gc.collect()
    wait_for(
        lambda: not any(one.name == "specola-card" for one in threading.enumerate()), 120, "the end of the threads"
    )
    assert view.value == ""


def test_a_cluster_is_found_again_and_outlives_its_handle(place: Place) -> None:
    first = scaleout.cluster(workers=1)
    first.close()
    again = scaleout.connect()
    assert again.name == first.name
    assert [one["name"] for one in scaleout.list()] == [first.name]
    again.scale(2)
    assert place.fake.clusters[first.name]["workers"]["wanted"] == 2
    again.adapt(0, 4)
    assert place.fake.clusters[first.name]["adaptive"] == {"minimum": 0, "maximum": 4}
    again.adapt()
    assert place.fake.clusters[first.name]["adaptive"]["maximum"] == 8
    again.adapt(active=False)
    assert place.fake.clusters[first.name]["workers"]["wanted"] == 2
    again.stop()
    with pytest.raises(ScaleoutError, match="You have no cluster"):
        scaleout.connect()


def test_a_budget_is_refused_in_words(place: Place) -> None:
    with pytest.raises(ScaleoutError, match="Ask for at most 8") as refusal:
        scaleout.cluster(workers=99)
    assert refusal.value.status == 422
    assert refusal.value.request_id
    assert place.fake.token not in str(refusal.value)


def test_a_start_that_fails_is_told_in_the_facilitys_words(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place.create(1)
    wait_for(lambda: made["status"] == "running", 120, "the cluster")
    made |= {"status": "failed", "reason": "The machine has no memory left."}
    with pytest.raises(ScaleoutError, match="no memory left"):
        scaleout._await_scheduler(_api.Api(), made["name"])
    made |= {"status": "starting"}
    monkeypatch.setattr(scaleout, "START_SECONDS", 0.3)
    with pytest.raises(ScaleoutError, match="did not start"):
        scaleout._await_scheduler(_api.Api(), made["name"])


def test_a_name_that_is_none_of_mine(place: Place) -> None:
    with pytest.raises(ScaleoutError, match="no such"):
        scaleout.connect("other")


def test_a_scheduler_out_of_reach_is_reached_through_the_gateway(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.fake.report = place.fake.report | {"options": {"specola": {"address": "tls://127.0.0.1:1"}}}
    monkeypatch.setattr(scaleout, "DIAL_SECONDS", 1)
    made = place.create(0)
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        cluster = scaleout.connect(made["name"])
        assert cluster.scheduler_address == f"gateway://127.0.0.1:1/{made['name']}"
        assert "0 threads" in cluster._repr_html_() or "0 workers" in cluster._repr_html_()
        cluster.close()


def test_a_facility_that_is_away_is_said_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = scaleout.cluster(workers=1)
    monkeypatch.setenv("SPECOLA_API_URL", "http://127.0.0.1:1/")
    with pytest.raises(ScaleoutError, match="does not answer"):
        cluster.scale(3)
    with pytest.raises(ScaleoutError, match="does not answer"):
        cluster.stop()
    assert "does not answer" in cluster._repr_html_()
    cluster.close()


def test_a_redirect_does_not_carry_the_token_away(place: Place) -> None:
    with pytest.raises(ScaleoutError, match="answered 302"):
        _api.Api().get("moved")


def test_outside_of_a_facility_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECOLA_API_URL", raising=False)
    with pytest.raises(ScaleoutError, match="SPECOLA_API_URL"):
        scaleout.sites()
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    assert _cards.dashboard("x") is None


def test_what_is_shown_is_escaped() -> None:
    now = _cards.numbers("<b>x", "failed", {}, wanted=None, reason="<script>", link="'><script>")
    assert "<script>" not in _cards.html(now)
