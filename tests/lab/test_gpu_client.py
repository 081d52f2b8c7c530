"""`from specola_lab import gpu` for asking, against a fake facility."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lab.fakeapi import FakeFacility
from lab.fakegpu import FakeGpus, gpu, lease, moment, part, pool, saved, wish
from running import wait_for
from specola_lab import _api
from specola_lab.gpu import client, said, widget
from specola_lab.gpu.client import GpuError, Wish


@pytest.fixture
def facility(home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFacility]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    fake = FakeFacility(home)

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    monkeypatch.setenv("SPECOLA_API_URL", run(fake.start()))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", fake.token)
    monkeypatch.delenv(client.LEASE, raising=False)
    monkeypatch.setattr(client, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(widget, "MOVING_SECONDS", 0.01)
    monkeypatch.setattr(widget, "CALM_SECONDS", 0.01)
    yield fake
    run(fake.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def gpus(facility: FakeFacility) -> FakeGpus:
    return facility.gpus


def grant(gpus: FakeGpus, **more: Any) -> None:
    """The first wish gets its slice."""
    gpus.wishes[0] |= {"state": "served", "lease": "l1", "position": None, "reason": ""}
    gpus.leases[:] = [lease(**more)]


class TestAsking:
    def test_sizes_and_hours_are_sent_as_the_api_has_them(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20, hours=2, alternatives=("4g",))
        sent = {"gib": 20, "minutes": 120, "on_grant": "hold", "alternatives": ["4g"]}
        assert gpus.asked == [("POST", "gpu/requests", sent)]
        assert (made.state, made.position, made.over) == ("queued", 1, False)
        assert "20 GB for 2 h, position 1, 4 min to 19 min" in repr(made)

    def test_an_hour_unless_said_and_a_notebook_by_its_path(self, gpus: FakeGpus) -> None:
        client.request(shape="3g", on_grant="notebook", notebook="train.ipynb", minutes=90)
        client.request(gib=5)
        assert gpus.asked[0][2] == {
            "shape": "3g",
            "minutes": 90,
            "on_grant": "notebook",
            "notebook": "train.ipynb",
        }
        assert gpus.asked[1][2]["minutes"] == 60

    def test_hours_and_minutes_together_are_a_mistake(self, gpus: FakeGpus) -> None:
        with pytest.raises(ValueError, match="either hours or minutes"):
            client.request(gib=5, hours=1, minutes=60)
        assert gpus.asked == []

    def test_a_refusal_is_an_error_in_the_facilitys_words(self, facility: FakeFacility) -> None:
        facility.refuse["POST gpu/requests"] = (422, "No GPU here has that much", "The largest has 40 GB.")
        with pytest.raises(GpuError, match=r"No GPU here has that much: The largest has 40 GB\.") as refused:
            client.request(gib=4000)
        assert refused.value.status == 422

    def test_outside_of_a_facility_it_says_where_it_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SPECOLA_API_URL", raising=False)
        with pytest.raises(GpuError, match="not started by a facility"):
            client.offers()

    def test_while_nobody_answers_leases_go_on(self, facility: FakeFacility, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPECOLA_API_URL", "http://127.0.0.1:1/")
        with pytest.raises(GpuError, match="Your leases go on"):
            client.leases()

    def test_an_answer_that_is_no_problem_document_is_quoted_by_its_number(self, facility: FakeFacility) -> None:
        refused = _api.Api(GpuError)._refusal(502, b"<html>", "r1")
        assert str(refused) == "The facility answered 502: Request id r1."


class TestWaiting:
    def test_wait_returns_the_lease(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        grant(gpus, state="making")
        threading.Timer(0.05, lambda: grant(gpus, state="offered", ends_at=moment(14))).start()
        assert made.wait(60)["state"] == "offered"
        assert made.state == "offered"

    def test_wait_gives_up_in_time(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        with pytest.raises(TimeoutError, match="position 1"):
            made.wait(0)

    def test_wait_says_when_it_comes_to_nothing(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        gpus.wishes[0] |= {"state": "failed", "reason": "The GPU broke."}
        with pytest.raises(GpuError, match="This request was failed: The GPU broke"):
            made.wait(60)

    def test_cancel_before_and_after_the_grant(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        made.cancel()
        assert (made.state, made.over) == ("cancelled", True)
        other = client.request(gib=20)
        gpus.wishes[:] = [gpus.wishes[1]]
        grant(gpus)
        other.cancel()
        assert gpus.asked[-1][:2] == ("DELETE", "gpu/leases/l1")

    def test_a_lapsed_grant_waits_again(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        grant(gpus, state="offered")
        assert made.refresh().lease is not None
        gpus.wishes[0] |= {"state": "queued", "position": 1, "lease": None}
        assert made.refresh().lease is None
        with pytest.raises(GpuError, match="has no GPU yet"):
            made.renew()


class TestHolding:
    def test_renew_adds_what_was_asked_for(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20, hours=2)
        grant(gpus)
        made.renew()
        made.renew(hours=0.5)
        assert [body for _, path, body in gpus.asked if path.endswith("renew")] == [
            {"token": 3, "minutes": 120},
            {"token": 3, "minutes": 30},
        ]

    def test_the_newest_lease_is_meant_unless_one_is_named(self, gpus: FakeGpus, monkeypatch: Any) -> None:
        gpus.leases += [lease(id="old", granted=moment(-50)), lease(id="new"), lease(id="gone", state="ended")]
        assert [one["id"] for one in client.leases()] == ["new", "old"]
        client.renew(minutes=15)
        client.renew("old")
        monkeypatch.setenv(client.LEASE, "old")
        client.release()
        client.release(gpus.leases[1])
        assert [path for _, path, _ in gpus.asked] == [
            "gpu/leases/new/renew",
            "gpu/leases/old/renew",
            "gpu/leases/old",
            "gpu/leases/new",
        ]

    def test_without_a_lease_it_says_how_to_ask(self, gpus: FakeGpus) -> None:
        with pytest.raises(GpuError, match="You hold no GPU"):
            client.release()


class FakeKernel:
    """A GPU kernel's way to its server."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.says: dict[str, Any] | Exception = {"status": 200, "body": {"items": [lease(id="mine")]}}

    def api(self, method: str, path: str, body: Any) -> dict[str, Any]:
        self.asked.append((method, path, body))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class TestInsideAGpuKernel:
    @pytest.fixture
    def kernel(self, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
        monkeypatch.delenv("SPECOLA_API_URL", raising=False)
        monkeypatch.setenv(client.LEASE, "mine")
        fake = FakeKernel()
        monkeypatch.setitem(sys.modules, "specola_worker.kernel.state", SimpleNamespace(current=fake))  # type: ignore[arg-type]
        return fake

    def test_questions_go_through_the_worker_without_a_token(self, kernel: FakeKernel) -> None:
        assert client.leases()[0]["id"] == "mine"
        kernel.says = {"status": 202, "body": lease(id="mine")}
        client.renew(minutes=5)
        client.release()
        assert kernel.asked == [
            ("GET", "gpu/leases", None),
            ("GET", "gpu/leases/mine", None),
            ("POST", "gpu/leases/mine/renew", {"token": 3, "minutes": 5}),
            ("GET", "gpu/leases/mine", None),
            ("DELETE", "gpu/leases/mine?token=3", None),
        ]

    def test_a_refusal_is_the_facilitys_and_a_cut_is_said(self, kernel: FakeKernel) -> None:
        kernel.says = {"status": 422, "body": {"title": "Two hours at most", "detail": ""}}
        with pytest.raises(GpuError, match="Two hours at most"):
            client.renew()
        kernel.says = RuntimeError("The connection is down.")
        with pytest.raises(GpuError, match=r"Your server does not answer: The connection is down\. Your leases go on"):
            client.leases()


class TestWords:
    def test_offers_print_as_a_table(self, gpus: FakeGpus) -> None:
        gpus.pools += [
            pool(gpu(0)),
            pool(gpu(0, part(0, 8, "7g", "busy"))),
            pool(available=False, reason="It is down."),
        ]
        shown = repr(client.offers())
        assert "A100-40GB (a100, simulated)\n  1g.5gb         4.75 GiB   8 of 8 free" in shown
        assert "none of 1 free, 4 min to 19 min" in shown
        assert shown.endswith("A100-40GB (a100, simulated): It is down.")
        gpus.pools.clear()
        assert repr(client.offers()) == "This facility offers no GPU."

    @pytest.mark.parametrize(
        ("found", "text"),
        [
            (None, "nobody can say how long"),
            ({"low": 10, "high": None}, "nobody can say how long"),
            ({"low": 300, "high": None}, "at least 5 min"),
            ({"low": 0, "high": 30}, "less than a minute"),
            ({"low": 0, "high": 7260}, "0 s to 2 h 1 min"),
        ],
    )
    def test_a_wait_is_a_range(self, found: dict[str, Any] | None, text: str) -> None:
        assert said.wait(found) == text

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"state": "offered", "expires": 10}, "Yours until "),
            ({"state": "offered", "expires": None}, "Yours."),
            ({"state": "active"}, "In use."),
            ({"state": "active", "idle_since": -9}, "Idle for 9 min."),
            ({"state": "expiring", "cause": "reclaimed", "ends_at": 2}, "taken back at "),
            ({"state": "starting", "reason": "2 jobs are before yours."}, "2 jobs are before yours."),
            ({"state": "saving"}, "being saved"),
            ({"state": "ending"}, "being given back"),
            ({"state": "ended", "outcome": "lapsed"}, "Ended: nobody took it in time."),
            ({"state": "ended", "outcome": "released"}, "Ended: released."),
        ],
    )
    def test_what_happens_with_a_lease(self, change: dict[str, Any], words: str) -> None:
        """Numbers are minutes from when the test runs, which may be long after it was collected."""
        change = {key: moment(value) if isinstance(value, int) else value for key, value in change.items()}
        assert words in said.lease(lease(**change))

    def test_a_request_without_a_known_size_says_what_was_asked(self) -> None:
        assert said.wish(wish(wants=[], gib=16, position=None)).startswith("16 GB for 2 h, in the queue")
        assert said.wish(wish(state="failed", reason="It broke.")) == "20 GB for 2 h, failed. It broke."


class TestWidget:
    def test_it_follows_the_request_until_the_end(self, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        drawn = widget.live(made)
        assert drawn is not None
        assert drawn.view["pill"] == "position 1"
        assert drawn.view["actions"] == [["cancel", "Cancel"]]
        grant(gpus)
        wait_for(lambda: drawn.view["pill"] == "active", 60, "the grant in the widget")
        assert drawn.view["actions"] == [["renew", "Renew"], ["release", "Give back"]]
        assert drawn.view["ends"] > time.time()
        gpus.leases[0] |= {"state": "expiring", "cause": "reclaimed", "ends_at": moment(2)}
        wait_for(lambda: "taken back" in drawn.view["words"], 60, "the notice in the widget")
        assert drawn.view["actions"][0] == ["keep", "Keep it"]
        gpus.leases[0] |= {"state": "ended", "outcome": "reclaimed", "saved": saved()}
        wait_for(lambda: drawn.view["pill"] == "ended", 60, "the end in the widget")
        assert drawn.view["actions"] == []

    def test_its_buttons_act_and_say_what_was_refused(self, facility: FakeFacility, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        drawn = widget.live(made)
        assert drawn is not None
        grant(gpus)
        wait_for(lambda: drawn.view["pill"] == "active", 60, "the grant in the widget")
        press = widget.Follower(made, drawn).clicked
        press(drawn, {"do": "something else"}, [])
        press(drawn, {"do": "renew"}, [])
        assert gpus.asked[-1][1] == "gpu/leases/l1/renew"
        facility.refuse["POST gpu/leases/l1/renew"] = (422, "Two hours at most", "")
        press(drawn, {"do": "renew"}, [])
        assert drawn.view["problem"] == "Two hours at most"
        facility.refuse.clear()
        press(drawn, {"do": "keep"}, [])
        assert gpus.asked[-1] == ("POST", "gpu/leases/l1/renew", {"token": 3, "minutes": 1})
        press(drawn, {"do": "release"}, [])
        assert gpus.asked[-1][:2] == ("DELETE", "gpu/leases/l1")

    def test_a_facility_that_is_away_is_said_and_forgotten(self, facility: FakeFacility, gpus: FakeGpus) -> None:
        made = client.request(gib=20)
        drawn = widget.live(made)
        assert drawn is not None
        facility.refuse[f"GET gpu/requests/{made.id}"] = (503, "Away", "")
        wait_for(lambda: drawn.view["problem"] == "Away", 60, "the problem in the widget")
        facility.refuse.clear()
        wait_for(lambda: drawn.view["problem"] == "", 60, "its end")
        drawn.close()

    def test_there_is_text_wherever_widgets_are_not(self, gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
        made: Wish = client.request(gib=20)
        full = made._repr_mimebundle_()
        assert {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"} <= set(full)

        def absent() -> None:
            raise ImportError

        monkeypatch.setattr(widget, "_drawing", absent)
        assert set(made._repr_mimebundle_()) == {"text/plain", "text/html"}
