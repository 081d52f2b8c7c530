"""The authenticator with a fake issuer: who gets in, who stays in, what is said."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_issuer import OTHER_KEY, SECRET, FakeIssuer, away, settings, status
from oauthenticator.oauth2 import _serialize_state
from specola.identity.adapters.authenticator import SpecolaAuthenticator
from specola.identity.adapters.login_handlers import nonce_of
from specola.identity.adapters.people import AnotherPerson, People
from specola.identity.people_table import METADATA
from sqlalchemy.exc import OperationalError
from tornado.web import HTTPError

STATE = "the-state"


class FakeHandler:
    """A callback request: its state cookie, its code and its state."""

    def __init__(self, **cookie: str) -> None:
        self._cookie = cookie or {"state_id": "x", "code_verifier": "the-verifier"}

    def get_state_cookie(self) -> str:
        return str(_serialize_state(self._cookie))

    def get_argument(self, name: str) -> str:
        return {"code": "the-code", "state": STATE}[name]


class FakeUser:
    """A user of the hub with an encrypted state, here in clear."""

    def __init__(self, name: str, state: dict[str, Any] | None) -> None:
        self.name = name
        self.state = state
        self.saved: list[dict[str, Any] | None] = []

    async def get_auth_state(self) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return None if self.state is None else dict(self.state)

    async def save_auth_state(self, state: dict[str, Any] | None) -> None:
        await asyncio.sleep(0)
        self.state = state
        self.saved.append(state)


class FakeWatch:
    def __init__(self) -> None:
        self.ended: list[tuple[str, str | None, str]] = []

    def revoke_soon(self, user: FakeUser, seen: dict[str, Any], why: str) -> None:
        self.ended.append((user.name, seen.get("access_token"), why))


@pytest.fixture
def fake() -> FakeIssuer:
    one = FakeIssuer()
    one.nonce = nonce_of(STATE)
    return one


@pytest.fixture
def authenticator(fake: FakeIssuer, tmp_path: Path) -> SpecolaAuthenticator:
    return make(fake, tmp_path)


def make(fake: FakeIssuer, place: Path, **more: Any) -> SpecolaAuthenticator:
    one = SpecolaAuthenticator(settings=settings(place, **more))
    one._provider = fake.provider(one.settings)
    one.watch = FakeWatch()
    return one


async def log_in(authenticator: SpecolaAuthenticator) -> FakeUser:
    model = await authenticator.authenticate(FakeHandler(), None)
    return FakeUser(model["name"], model["auth_state"])


async def refusal(authenticator: SpecolaAuthenticator, handler: FakeHandler | None = None) -> tuple[int, str]:
    with pytest.raises(HTTPError) as error:
        await authenticator.authenticate(handler or FakeHandler(), None)
    return error.value.status_code, error.value.get_message()


def expire(user: FakeUser) -> None:
    assert user.state is not None
    user.state["expires_at"] = 0


async def test_login_answers_the_model_that_the_hub_wants(authenticator: SpecolaAuthenticator) -> None:
    model = await authenticator.authenticate(FakeHandler(), None)
    assert (model["name"], model["groups"], model["admin"]) == ("anna", ["physics"], None)
    facts = model["auth_state"]["specola"]
    assert (facts["subject"], facts["full_name"]) == ("s-1", "Anna")
    assert facts["groups"] == [{"group": "physics", "why": "token"}]
    assert authenticator.people.full_name("anna") == "Anna"
    assert authenticator.people.full_name("nobody") == "nobody"


async def test_the_one_setting_decides_the_traits(authenticator: SpecolaAuthenticator) -> None:
    assert authenticator.client_id == "specola-hub"
    assert "wlcg.groups" in authenticator.scope
    assert authenticator.get_callback_url() == "https://hub.test/hub/oauth_callback"
    assert authenticator.login_service
    assert authenticator.enable_auth_state
    assert authenticator.manage_groups
    assert authenticator.validate_username("anna")
    assert not authenticator.validate_username("root")
    assert authenticator.normalize_username("Anna") == "Anna"
    assert SECRET not in repr(authenticator.settings)


async def test_it_makes_its_own_back_channel(tmp_path: Path) -> None:
    one = SpecolaAuthenticator(settings=settings(tmp_path))
    assert one.provider is one.provider
    await one.provider.close()


async def test_endpoints_are_learnt_late(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    assert authenticator.authorize_url == ""
    await authenticator.learn_endpoints()
    assert authenticator.authorize_url == "https://iam.test/authorize"


async def test_the_roster_lets_somebody_in(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    fake.info |= {"sub": "s-2", "preferred_username": "dora", "groups": [], "name": "  "}
    user = await log_in(authenticator)
    assert user.state["specola"]["groups"] == [{"group": "physics", "why": "roster"}]
    assert user.state["specola"]["full_name"] == "dora"


async def test_groups_of_the_id_token_count(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    del fake.info["groups"]
    fake.claims["wlcg.groups"] = ["/ops"]
    assert (await authenticator.authenticate(FakeHandler(), None))["groups"] == ["ops"]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (
            {"groups": ["elsewhere"]},
            "serves these groups: ops, physics. Your login service says that you are in: elsewhere.",
        ),
        ({"groups": []}, "you are in: none"),
        ({"groups": "physics"}, "form other than a list"),
        ({"preferred_username": "root"}, "reserved for the system"),
        ({"preferred_username": "Anna"}, "capital letters"),
        ({"groups": ["100%s"]}, "100%s"),
    ],
)
async def test_who_may_not_in_is_told_why(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer, info: dict[str, Any], text: str
) -> None:
    fake.info |= info
    status_code, message = await refusal(authenticator)
    assert status_code == 403
    assert text in message


async def test_names_and_subjects_belong_together(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    await log_in(authenticator)
    fake.info["sub"] = "s-9"
    assert "belongs to somebody else" in (await refusal(authenticator))[1]
    fake.info |= {"sub": "s-1", "preferred_username": "anna2"}
    assert "has changed" in (await refusal(authenticator))[1]
    fake.info["preferred_username"] = "anna"
    assert (await log_in(authenticator)).name == "anna"


async def test_people_stay_the_same_when_the_issuers_url_changes_but_not_its_name(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer
) -> None:
    """The URL of the embedded issuer holds the port that the facility happens to have."""
    authenticator.settings = replace(authenticator.settings, known_as="embedded")
    await log_in(authenticator)
    (anna,) = authenticator.people.everybody()
    assert (anna.name, anna.issuer) == ("anna", "embedded")


@pytest.mark.parametrize(
    ("endpoint", "answer", "says"),
    [
        ("token", away, (503, "does not answer")),
        ("userinfo", status(500), (503, "does not answer")),
        ("token", status(400, {"error": "invalid_grant"}), (403, "too long or was used")),
        ("token", status(401, {"error": "invalid_client"}), (502, "does not accept this facility")),
        ("token", status(200, {"access_token": "planted-1"}), (502, "cannot be trusted")),
        ("userinfo", status(200, {"sub": "another"}), (502, "cannot be trusted")),
        ("userinfo", status(401), (502, "cannot be trusted")),
    ],
)
async def test_a_login_that_goes_wrong_ends_in_a_page(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer, endpoint: str, answer: Any, says: tuple[int, str]
) -> None:
    fake.answers[endpoint] = answer
    status_code, message = await refusal(authenticator)
    assert status_code == says[0]
    assert says[1] in message


async def test_an_unreachable_issuer_is_said_before_the_redirect(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer
) -> None:
    fake.answers["openid-configuration"] = away
    with pytest.raises(HTTPError) as error:
        await authenticator.learn_endpoints()
    assert error.value.status_code == 503


async def test_a_login_without_its_verifier_is_refused(authenticator: SpecolaAuthenticator) -> None:
    assert (await refusal(authenticator, FakeHandler(state_id="x")))[0] == 403


async def test_an_id_token_of_another_login_is_refused(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    fake.nonce = "stolen"
    assert (await refusal(authenticator))[0] == 502


async def test_refresh_follows_the_issuer(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    """While the access token is good, userinfo alone is asked."""
    user = await log_in(authenticator)
    fake.info |= {"groups": ["physics", "ops"], "name": "Anna Verdi"}
    model = await authenticator.refresh_user(user, None)
    assert model["groups"] == ["ops", "physics"]
    assert user.state["specola"]["full_name"] == "Anna Verdi"
    assert fake.asked.count("token") == 1


@pytest.mark.parametrize("how", ["expired", "not taken"])
async def test_an_ended_access_token_is_refreshed(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer, how: str
) -> None:
    user = await log_in(authenticator)
    old = user.state["refresh_token"]
    fake.good_access.clear()
    if how == "expired":
        expire(user)
    assert isinstance(await authenticator.refresh_user(user), dict)
    assert user.state["refresh_token"] == fake.good_refresh != old


async def test_the_new_refresh_token_is_kept_before_anything_else_can_fail(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer
) -> None:
    """Userinfo breaks after the rotation: the session goes on with the new token."""
    user = await log_in(authenticator)
    expire(user)
    fake.answers["userinfo"] = status(503)
    assert await authenticator.refresh_user(user) is True
    assert user.state["refresh_token"] == fake.good_refresh
    del fake.answers["userinfo"]
    assert isinstance(await authenticator.refresh_user(user), dict)


async def test_an_issuer_without_rotation_keeps_the_token(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer
) -> None:
    user = await log_in(authenticator)
    expire(user)
    fake.good_access = {"again"}
    fake.answers["token"] = status(200, {"access_token": "again", "token_type": "bearer"})
    assert isinstance(await authenticator.refresh_user(user), dict)
    assert user.state["refresh_token"] == fake.good_refresh


async def test_two_at_once_use_a_refresh_token_once(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    """The lock: ten requests of one person make one refresh, and nobody's token is used twice."""
    user = await log_in(authenticator)
    expire(user)
    models = await asyncio.gather(*(authenticator.refresh_user(user) for _ in range(10)))
    assert all(isinstance(model, dict) for model in models)
    assert fake.asked.count("token") == 2


async def test_only_invalid_grant_ends_a_session(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    user = await log_in(authenticator)
    for code, error in ((400, "invalid_client"), (500, "x"), (429, "x"), (400, "temporarily_unavailable")):
        expire(user)
        fake.answers["token"] = status(code, {"error": error})
        assert await authenticator.refresh_user(user) is True
    for answer in (away, status(200, ["x"])):
        fake.answers["token"] = answer
        assert await authenticator.refresh_user(user) is True
    assert authenticator.watch.ended == []
    fake.answers["token"] = status(400, {"error": "invalid_grant"})
    assert await authenticator.refresh_user(user) is False
    assert authenticator.watch.ended == [("anna", "planted-access-1", "the issuer ended the session")]


async def test_a_lost_group_ends_the_session(authenticator: SpecolaAuthenticator, fake: FakeIssuer) -> None:
    """The watch hears of the tokens as they are now, after a refresh on the way."""
    user = await log_in(authenticator)
    expire(user)
    fake.info["groups"] = ["elsewhere"]
    assert await authenticator.refresh_user(user) is False
    [(name, access, why)] = authenticator.watch.ended
    assert (name, access) == ("anna", "planted-access-2")
    assert "none of the facility's groups" in why


@pytest.mark.parametrize("info", [{"groups": "physics"}, {"sub": "another"}])
async def test_an_answer_that_cannot_be_used_changes_nothing(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer, info: dict[str, Any]
) -> None:
    """A broken issuer must not throw everybody out, and gives nobody a new right."""
    user = await log_in(authenticator)
    before = dict(user.state)
    fake.info |= info
    assert await authenticator.refresh_user(user) is True
    assert user.state == before


async def test_a_tampered_token_at_refresh_changes_nothing(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer
) -> None:
    user = await log_in(authenticator)
    expire(user)
    fake.info["groups"] = ["physics", "ops"]
    forged = fake.id_token(key=OTHER_KEY)
    fake.good_access = {"a"}
    fake.answers["token"] = status(200, {"access_token": "a", "token_type": "bearer", "id_token": forged})
    assert await authenticator.refresh_user(user) is True
    assert user.state["specola"]["groups"] == [{"group": "physics", "why": "token"}]


async def test_an_outage_ends_sessions_after_the_grace(fake: FakeIssuer, tmp_path: Path) -> None:
    authenticator = make(fake, tmp_path, outage_grace=100)
    user = await log_in(authenticator)
    fake.answers["userinfo"] = away
    user.state["specola"]["confirmed"] = time.time() - 90
    assert await authenticator.refresh_user(user) is True
    user.state["specola"]["confirmed"] = time.time() - 110
    assert await authenticator.refresh_user(user) is False
    assert "too long" in authenticator.watch.ended[0][2]


async def test_without_a_refresh_token_a_login_is_asked_for(fake: FakeIssuer, tmp_path: Path) -> None:
    """Servers go on until the grace is over."""
    authenticator = make(fake, tmp_path, outage_grace=100)
    user = await log_in(authenticator)
    expire(user)
    del user.state["refresh_token"]
    assert await authenticator.refresh_user(user) is False
    assert authenticator.watch.ended == []
    user.state["specola"]["confirmed"] = 0
    assert await authenticator.refresh_user(user) is False
    assert len(authenticator.watch.ended) == 1


async def test_nobody_without_a_state_and_nobody_whose_right_ended(authenticator: SpecolaAuthenticator) -> None:
    authenticator.watch = None
    assert await authenticator.refresh_user(FakeUser("anna", None)) is False
    assert await authenticator.refresh_user(FakeUser("anna", {"specola": {"gone": "why"}})) is False


async def test_the_hub_merges_what_is_kept(authenticator: SpecolaAuthenticator) -> None:
    kept = {"refresh_token": "r", "broker": 1}
    merged = authenticator.reconcile_auth_state_hook(authenticator, {"auth_state": {"access_token": "a"}}, kept)
    assert merged == {"refresh_token": "r", "broker": 1, "access_token": "a"}


async def test_no_secret_in_logs_and_pages(
    authenticator: SpecolaAuthenticator, fake: FakeIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """An issuer that repeats tokens and secrets in its errors gets none of them into our log or page."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("traitlets").propagate = True
    authenticator.log.propagate = True
    texts = []
    user = await log_in(authenticator)
    for endpoint in ("token", "userinfo"):
        for code in (200, 400, 401, 500):
            planted = {"error": f"planted {SECRET}", "error_description": "planted", "access_token": "planted"}
            fake.answers = {endpoint: status(code, planted)}
            texts.append((await refusal(authenticator))[1])
            expire(user)
            await authenticator.refresh_user(user)
    everything = caplog.text + " ".join(texts)
    assert "Cannot ask the issuer" in everything
    assert "planted" not in everything


def test_the_table_of_people_may_be_made_by_two_at_once(tmp_path: Path) -> None:
    """The service's migrations and the hub open the same file."""
    first, second = People(tmp_path / "x.sqlite"), People(tmp_path / "x.sqlite")
    first.admit(issuer="i", subject="s", name="anna", full_name="Anna")
    with pytest.raises(AnotherPerson):
        second.admit(issuer="i", subject="t", name="anna", full_name="Anna")


def test_a_table_that_appears_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The migrations make it between the hub's look and its own try."""
    usual, tries = METADATA.create_all, []

    def late(*args: Any, **kwargs: Any) -> None:
        tries.append(args)
        if len(tries) == 1:
            raise OperationalError("table people already exists", None, Exception())
        usual(*args, **kwargs)

    monkeypatch.setattr(METADATA, "create_all", late)
    assert People(tmp_path / "x.sqlite").full_name("anna") == "anna"
