"""The same login against an independent OpenID Connect provider, oidc-provider-mock (Flask, Authlib)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_rig import Browser, RunningHub, client_settings, hub_running
from identity_rig import SECRET, until
from running import free_port

SCOPES = ("openid", "profile", "email")


class Foreign:
    """A foreign issuer whose people and tokens the tests decide."""

    def __init__(self, port: int) -> None:
        self.url = f"http://localhost:{port}"

    def person(self, subject: str, **claims: Any) -> str:
        httpx.put(f"{self.url}/users/{subject}", json=claims, timeout=60).raise_for_status()
        return subject

    def revoke(self, subject: str) -> None:
        httpx.post(f"{self.url}/users/{subject}/revoke-tokens", timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def foreign() -> Iterator[Foreign]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), "--host", "127.0.0.1"],
        env=os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    one = Foreign(port)
    try:
        until(lambda: _answers(f"{one.url}/.well-known/openid-configuration"))
        yield one
    finally:
        process.terminate()
        process.wait(120)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def hub(foreign: Foreign, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    settings = client_settings(foreign.url, scopes=SCOPES, recheck_interval=2.0)
    with hub_running(tmp_path_factory.mktemp("foreign") / "hub", settings) as running:
        yield running


def test_login_works_the_same(hub: RunningHub, foreign: Foreign) -> None:
    """Discovery, code, signed id token with our nonce, userinfo and groups, from code that is not ours."""
    browser = Browser(hub)
    page = browser.log_in_as(foreign.person("s-1", preferred_username="bea", name="Bea", groups=["/physics"]))
    assert (page.status_code, page.url.path) == (200, "/hub/home"), page.text
    assert hub.user("bea")["groups"] == ["physics"]


def test_groups_follow_the_issuer(hub: RunningHub, foreign: Foreign) -> None:
    """A group that the issuer adds arrives with the next refresh; the session goes on."""
    foreign.person("s-2", preferred_username="ciro", groups=["physics"])
    browser = Browser(hub)
    browser.log_in_as("s-2")
    foreign.person("s-2", preferred_username="ciro", groups=["physics", "ops"])
    hub.until(lambda: browser.is_in() and hub.user("ciro")["groups"] == ["ops", "physics"])


def test_revoked_tokens_log_out(hub: RunningHub, foreign: Foreign) -> None:
    """The refresh token is answered with invalid_grant: the session ends."""
    foreign.person("s-3", preferred_username="eva", groups=["physics"])
    browser = Browser(hub)
    browser.log_in_as("s-3")
    assert browser.is_in()
    foreign.revoke("s-3")
    hub.until(lambda: not browser.is_in())


def test_a_lost_group_ends_the_session(hub: RunningHub, foreign: Foreign) -> None:
    """In no declared group any more: out, and the next login says why."""
    foreign.person("s-4", preferred_username="fabio", groups=["physics"])
    browser = Browser(hub)
    browser.log_in_as("s-4")
    foreign.person("s-4", preferred_username="fabio", groups=["elsewhere"])
    hub.until(lambda: not browser.is_in())
    hub.until(lambda: hub.user("fabio")["groups"] == [])
    assert "not in a group" in Browser(hub).log_in_as("s-4").text


def test_a_known_name_with_another_subject_is_refused(hub: RunningHub, foreign: Foreign) -> None:
    Browser(hub).log_in_as(foreign.person("s-5", preferred_username="gina", groups=["physics"]))
    page = Browser(hub).log_in_as(foreign.person("s-6", preferred_username="gina", groups=["physics"]))
    assert page.status_code == 403
    assert "belongs to somebody else" in page.text


def test_a_known_subject_with_another_name_is_refused(hub: RunningHub, foreign: Foreign) -> None:
    Browser(hub).log_in_as(foreign.person("s-7", preferred_username="hugo", groups=["physics"]))
    page = Browser(hub).log_in_as(foreign.person("s-7", preferred_username="hugo2", groups=["physics"]))
    assert page.status_code == 403
    assert "name has changed" in page.text


@pytest.mark.parametrize("name", ["root", "anna@cern.ch", "Anna", "a" * 200, "../x", None])
def test_a_name_that_cannot_be_an_account_is_refused(hub: RunningHub, foreign: Foreign, name: str | None) -> None:
    """With a page that says what to do and that does not repeat the name."""
    claims = {} if name is None else {"preferred_username": name}
    page = Browser(hub).log_in_as(foreign.person("s-8", groups=["physics"], **claims))
    assert page.status_code == 403
    assert "login name cannot be used" in page.text
    assert name is None or name == "root" or name not in page.text


@pytest.mark.parametrize("groups", ["physics", {"physics": True}, ["physics", 3]])
def test_a_group_claim_that_is_no_list_of_names_is_refused(hub: RunningHub, foreign: Foreign, groups: object) -> None:
    page = Browser(hub).log_in_as(foreign.person("s-9", preferred_username="ines", groups=groups))
    assert page.status_code == 403
    assert "form other than a list of names" in page.text


def test_a_callback_that_nobody_asked_for_is_refused(hub: RunningHub) -> None:
    """A forged code, state or error ends in a page and echoes nothing."""
    for query in ("code=x&state=y", "error=<script>x</script>&error_description=planted", "error=access_denied"):
        page = Browser(hub).get(f"/hub/oauth_callback?{query}")
        assert page.status_code in {400, 403}
        assert "planted" not in page.text
        assert "<script>x" not in page.text


def test_an_answer_of_another_issuer_is_refused(hub: RunningHub) -> None:
    """RFC 9207: mixing up issuers is noticed."""
    browser = Browser(hub)
    start = browser.http.get(f"{hub.url}/hub/oauth_login", follow_redirects=False)
    state = httpx.URL(start.headers["location"]).params["state"]
    page = browser.http.get(
        f"{hub.url}/hub/oauth_callback", params={"code": "x", "state": state, "iss": "https://evil"}
    )
    assert page.status_code == 400
    page = browser.http.get(f"{hub.url}/hub/oauth_callback", params={"code": "x", "state": state})
    assert page.status_code == 400, "the state was used up"


def test_a_code_that_the_issuer_does_not_know_is_refused(hub: RunningHub) -> None:
    browser = Browser(hub)
    start = browser.http.get(f"{hub.url}/hub/oauth_login", follow_redirects=False)
    state = httpx.URL(start.headers["location"]).params["state"]
    page = browser.http.get(f"{hub.url}/hub/oauth_callback", params={"code": "planted-code", "state": state})
    assert page.status_code == 403
    assert "took too long or was used before" in page.text


def test_no_secret_is_in_the_hubs_log(hub: RunningHub) -> None:
    for secret in (SECRET, "eyJhbGci", "planted-code"):
        assert secret not in hub.log


def test_a_wrong_issuer_is_refused(foreign: Foreign, tmp_path: Path) -> None:
    """The facility file says the issuer with a slash, its discovery document without: nobody logs in."""
    with hub_running(tmp_path / "hub", client_settings(foreign.url + "/", scopes=SCOPES)) as hub:
        page = Browser(hub).get("/hub/login")
        assert page.status_code == 502
        assert "cannot be trusted" in page.text
        assert "a slash counts" in hub.log


def test_an_issuer_that_cannot_be_reached_is_said(tmp_path: Path) -> None:
    with hub_running(tmp_path / "hub", client_settings(f"http://127.0.0.1:{free_port()}/")) as hub:
        page = Browser(hub).get("/hub/login")
        assert page.status_code == 503
        assert "does not answer at present" in page.text
