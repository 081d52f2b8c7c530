"""A token that is deleted at the hub is refused everywhere within ten seconds, however much it was used before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from running import Facility, Session, wait_for

pytestmark = [pytest.mark.journey, pytest.mark.needs_root]

LIMIT = 10.0
REFUSALS = {401, 403}


@dataclass
class Stream:
    """An open event stream, and when it ended."""

    url: str
    token: str
    opened: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        headers = {"Authorization": f"token {self.token}"}
        with httpx.stream("GET", self.url, headers=headers, timeout=60) as answer:
            assert answer.status_code == 200
            self.opened.set()
            try:
                for _ in answer.iter_raw():
                    pass
            except httpx.RemoteProtocolError:
                pass
        self.ended.set()


@pytest.fixture(scope="module")
def marco(facility: Facility) -> Iterator[Session]:
    session = facility.login("marco")
    session.start_server()
    yield session
    session.stop_server()


def asks(facility: Facility, token: str) -> dict[str, Callable[[], int]]:
    """One question to each part of the facility that takes a token."""
    paths = {
        "hub": "hub/api/user",
        "API": "services/specola/api/v1/me",
        "gateway": "services/dask-gateway/api/v1/clusters/",
        "server": "user/marco/api/status",
        "panel's relay": "user/marco/specola/api/v1/me",
    }
    headers = {"Authorization": f"token {token}"}
    return {
        part: lambda path=path: httpx.get(facility.url + path, headers=headers).status_code
        for part, path in paths.items()
    }


def test_every_part_refuses_within_ten_seconds(facility: Facility, marco: Session) -> None:
    made = marco.http.post(f"{facility.url}hub/api/users/marco/tokens", json={"note": "x"}, headers=marco.xsrf()).json()
    parts = asks(facility, made["token"])
    stream = Stream(f"{facility.url}services/specola/api/v1/events", made["token"])
    reading = threading.Thread(target=stream.read)
    reading.start()
    assert stream.opened.wait(20)
    assert {part: ask() for part, ask in parts.items()} == dict.fromkeys(parts, 200)
    gone = marco.http.delete(f"{facility.url}hub/api/users/marco/tokens/{made['id']}", headers=marco.xsrf())
    assert gone.status_code == 204
    begin, took = time.monotonic(), dict[str, float]()
    while len(took) < len(parts) + 1 and time.monotonic() < begin + LIMIT:
        for part, ask in parts.items():
            if part not in took and ask() in REFUSALS:
                took[part] = time.monotonic() - begin
        if stream.ended.is_set():
            took.setdefault("event stream", time.monotonic() - begin)
        time.sleep(0.1)
    print({part: round(seconds, 1) for part, seconds in took.items()})
    assert set(took) == {*parts, "event stream"}
    reading.join(5)


def test_cookies_of_a_browser_that_logged_out_are_worth_nothing(facility: Facility, marco: Session) -> None:
    """Also those that somebody has copied before."""
    browser = facility.login("marco").http
    page, status = f"{facility.url}services/specola/", f"{facility.url}user/marco/api/status"
    assert browser.get(f"{facility.url}user/marco/lab").is_success
    copy = httpx.Client(cookies=browser.cookies.jar)
    assert [copy.get(url).status_code for url in (page, status)] == [200, 200]
    browser.get(f"{facility.url}hub/logout")
    wait_for(lambda: [copy.get(url).status_code for url in (page, status)] == [302, 403], LIMIT, "both refusals")
    assert marco.server_ready()


def test_prometheus_reads_with_its_own_token_and_nobody_else_does(facility: Facility, marco: Session) -> None:
    url = f"{facility.url}services/specola/metrics"
    token = (facility.state / "secrets" / "metrics").read_text()
    scraper = {"Authorization": f"Bearer {token}"}
    assert "specola_http_requests_total" in httpx.get(url, headers=scraper).text
    assert "jupyterhub_" in httpx.get(f"{facility.url}hub/metrics", headers=scraper).text
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": f"token {marco.token}"}).status_code == 403
    assert httpx.get(f"{facility.url}hub/api/users", headers=scraper).status_code == 403
    assert httpx.get(f"{facility.url}services/specola/api/v1/me", headers=scraper).status_code == 403
