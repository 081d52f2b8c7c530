"""A real JupyterHub 6.1 with our authenticator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_rig import Browser, RunningHub, client_settings, hub_running
from identity_rig import PEOPLE, SECRET, RunningIssuer, issuer_running
from running import free_port


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def issuer(place: Path, port: int) -> Iterator[RunningIssuer]:
    with issuer_running(place, f"http://127.0.0.1:{port}/hub/oauth_callback", access_token_life=5) as running:
        yield running


@pytest.fixture(scope="module")
def hub(place: Path, port: int, issuer: RunningIssuer) -> Iterator[RunningHub]:
    settings = client_settings(issuer.url, recheck_interval=2.0)
    with hub_running(place / "hub", settings, port=port) as running:
        yield running


def test_login_gives_groups_and_roles(hub: RunningHub, issuer: RunningIssuer) -> None:
    """Anna logs in through our issuer, is in `physics`, and has what the role `user` may do."""
    browser = Browser(hub)
    page = browser.log_in("anna", issuer.logins["anna"])
    assert page.status_code == 200, page.text
    assert page.url.path == "/hub/home"
    assert hub.user("anna")["groups"] == ["physics"]
    token = hub.api("users/anna/tokens", "POST", json={"expires_in": 60}).json()["token"]
    scopes = hub.api("user", token=token).json()["scopes"]
    assert {"custom:specola:scaleout:write", "access:services!service=specola"} <= set(scopes)
    assert "custom:specola:admin" not in scopes


def test_the_roster_adds_groups(hub: RunningHub, issuer: RunningIssuer) -> None:
    """Marco's token says `physics`; our roster adds `ops`, which makes him an administrator."""
    Browser(hub).log_in("marco", issuer.logins["marco"])
    assert hub.user("marco")["groups"] == ["ops", "physics"]


def test_an_outsider_is_refused_clearly(hub: RunningHub, issuer: RunningIssuer) -> None:
    """Ugo is in no declared group: the page says which groups count and which he has."""
    page = Browser(hub).log_in("ugo", issuer.logins["ugo"])
    assert page.status_code == 403
    for word in ("not in a group", "ops, physics", "elsewhere"):
        assert word in page.text
    assert hub.api("users/ugo").status_code == 404


def test_a_right_that_ends_stops_servers_and_sessions(hub: RunningHub, issuer: RunningIssuer) -> None:
    """Anna is taken out of the issuer while her server runs: within the interval everything of hers ends."""
    issuer.people(PEOPLE)
    browser = Browser(hub)
    browser.log_in("anna", issuer.logins["anna"])
    assert hub.api("users/anna/server", "POST").status_code in {201, 202}
    hub.until(lambda: hub.user("anna")["servers"].get("", {}).get("ready"))
    token = hub.api("users/anna/tokens", "POST", json={}).json()["token"]
    issuer.people([person for person in PEOPLE if person.name != "anna"])
    hub.until(lambda: not hub.user("anna")["servers"])
    assert hub.user("anna")["groups"] == []
    assert hub.api("user", token=token).status_code == 403
    assert not browser.is_in()
    assert "planted" not in hub.log
    issuer.people(PEOPLE)
    assert Browser(hub).log_in("anna", issuer.logins["anna"]).url.path == "/hub/home"


def test_an_issuer_that_is_away_logs_nobody_out(hub: RunningHub, issuer: RunningIssuer) -> None:
    """Sessions go on, new logins get a clear page, and refreshing goes on when it is back."""
    browser = Browser(hub)
    browser.log_in("marco", issuer.logins["marco"])
    issuer.stop()
    try:
        assert browser.is_in()
    finally:
        issuer.start()
    assert browser.is_in()
    assert hub.user("marco")["groups"] == ["ops", "physics"]


def test_no_secret_is_in_the_hubs_log(hub: RunningHub, issuer: RunningIssuer) -> None:
    """Client secret, tokens and passwords stay out, also at debug level."""
    for name in ("marco", "ugo"):
        Browser(hub).log_in(name, issuer.logins[name])
    hub.until(lambda: "User logged in: marco" in hub.log and "Login refused" in hub.log)
    for secret in (SECRET, "eyJ", *issuer.logins.values()):
        assert secret not in hub.log
