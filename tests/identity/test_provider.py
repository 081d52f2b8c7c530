"""The back channel: what is believed, what is tried again, what is said in errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_issuer import ISSUER, OTHER_KEY, SECRET, FakeIssuer, away, lost, one_by_one, settings, status
from specola.identity.adapters import provider as module
from specola.identity.adapters.provider import Refused, TokenExpired, Unreachable, Untrusted


@pytest.fixture
def fake() -> FakeIssuer:
    return FakeIssuer()


async def test_the_discovery_document_is_read_late_and_once(fake: FakeIssuer, tmp_path: Path) -> None:
    provider = fake.provider(settings(tmp_path))
    assert fake.asked == []
    assert (await provider.metadata()).authorize == f"{ISSUER}authorize"
    await provider.metadata()
    assert fake.asked == ["openid-configuration"]
    await provider.close()


async def test_an_old_discovery_document_serves_while_the_issuer_is_away(
    fake: FakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = fake.provider(settings(tmp_path))
    first = await provider.metadata()
    monkeypatch.setattr(module, "DISCOVERY_LIFE", -1)
    fake.answers["openid-configuration"] = away
    assert await provider.metadata() is first


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"issuer": ISSUER.rstrip("/")}, "a slash counts"),
        ({"issuer": "https://iam.TEST/"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
    ],
)
async def test_a_wrong_discovery_document_is_not_believed(
    fake: FakeIssuer, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    fake.discovery |= change
    with pytest.raises(Untrusted, match=why):
        await fake.provider(settings(tmp_path)).metadata()


@pytest.mark.parametrize(("answer", "error"), [(status(404), Unreachable), (status(200, ["x"]), Untrusted)])
async def test_a_strange_discovery_document_is_no_answer(
    fake: FakeIssuer, tmp_path: Path, answer: Any, error: type[Exception]
) -> None:
    fake.answers["openid-configuration"] = answer
    with pytest.raises(error):
        await fake.provider(settings(tmp_path)).metadata()


async def test_html_instead_of_json_is_not_believed(fake: FakeIssuer, tmp_path: Path) -> None:
    fake.answers["openid-configuration"] = lambda _: httpx.Response(200, text="<html>")
    with pytest.raises(Untrusted, match="not a JSON object"):
        await fake.provider(settings(tmp_path)).metadata()


async def test_the_back_channel_replaces_the_public_prefix(fake: FakeIssuer, tmp_path: Path) -> None:
    """Browsers go to the public URL; the hub goes to loopback, and elsewhere where the document says so."""
    fake.discovery["jwks_uri"] = "https://keys.test/jwk"
    provider = fake.provider(settings(tmp_path, back_channel="http://127.0.0.1:9/x/"))
    metadata = await provider.metadata()
    assert metadata.authorize == f"{ISSUER}authorize"
    assert metadata.token == "http://127.0.0.1:9/x/token"
    assert metadata.jwks == "https://keys.test/jwk"


async def test_the_client_proves_itself_as_the_issuer_wants(fake: FakeIssuer, tmp_path: Path) -> None:
    """Basic with encoded name and secret by default; in the body when only that is offered."""
    await fake.provider(settings(tmp_path)).redeem("the-code", "the-verifier")
    fake.discovery["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    await fake.provider(settings(tmp_path)).redeem("the-code", "the-verifier")


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client"])
async def test_a_refusal_has_its_code_and_nothing_else(fake: FakeIssuer, tmp_path: Path, error: str) -> None:
    fake.answers["token"] = status(400, {"error": error, "error_description": SECRET})
    with pytest.raises(Refused) as caught:
        await fake.provider(settings(tmp_path)).refresh("planted")
    assert caught.value.error == str(caught.value) == error


@pytest.mark.parametrize("body", [{"error": "planted"}, {"error": ["planted"]}, {}])
async def test_an_unknown_refusal_is_not_repeated(fake: FakeIssuer, tmp_path: Path, body: dict[str, Any]) -> None:
    fake.answers["token"] = status(400, body)
    with pytest.raises(Refused, match=r"^invalid_request$"):
        await fake.provider(settings(tmp_path)).refresh("planted")


@pytest.mark.parametrize("body", [{}, {"access_token": 3}, {"access_token": "a", "token_type": "mac"}])
async def test_a_broken_token_answer_is_not_believed(fake: FakeIssuer, tmp_path: Path, body: dict[str, Any]) -> None:
    fake.answers["token"] = status(200, body)
    with pytest.raises(Untrusted):
        await fake.provider(settings(tmp_path)).refresh("planted")


async def test_a_refresh_is_sent_again_when_its_answer_is_lost(fake: FakeIssuer, tmp_path: Path) -> None:
    fake.answers["token"] = one_by_one(lost, status(503), status(429), fake._token)
    answer = await fake.provider(settings(tmp_path), (0, 0, 0)).refresh("planted-refresh-1")
    assert answer["access_token"] == "planted-access-1"
    assert fake.asked.count("token") == 4


async def test_a_code_is_sent_again_only_when_it_was_not_sent(fake: FakeIssuer, tmp_path: Path) -> None:
    """An issuer revokes everything when a code comes twice."""
    fake.answers["token"] = one_by_one(away, fake._token)
    await fake.provider(settings(tmp_path), (0, 0)).redeem("the-code", "the-verifier")
    fake.answers["token"], before = lost, fake.asked.count("token")
    with pytest.raises(Unreachable, match=r"^ReadTimeout$"):
        await fake.provider(settings(tmp_path), (0, 0)).redeem("the-code", "the-verifier")
    assert fake.asked.count("token") == before + 1


@pytest.mark.parametrize("code", [400, 401, 403])
async def test_a_token_that_is_not_taken_has_expired(fake: FakeIssuer, tmp_path: Path, code: int) -> None:
    fake.answers["userinfo"] = status(code)
    with pytest.raises(TokenExpired):
        await fake.provider(settings(tmp_path)).userinfo("planted")


async def test_userinfo_needs_a_subject(fake: FakeIssuer, tmp_path: Path) -> None:
    fake.answers["userinfo"] = status(200, {"name": "x"})
    with pytest.raises(Untrusted):
        await fake.provider(settings(tmp_path)).userinfo("planted")


async def test_a_good_id_token_is_believed(fake: FakeIssuer, tmp_path: Path) -> None:
    provider = fake.provider(settings(tmp_path))
    assert (await provider.identity(fake.id_token()))["sub"] == "s-1"
    assert (await provider.identity(fake.id_token(kid=None)))["sub"] == "s-1", "one key needs no name"
    several = fake.id_token(aud=["specola-hub", "other"], azp="specola-hub", nonce="n")
    assert (await provider.identity(several, nonce="n"))["nonce"] == "n"
    assert fake.asked.count("jwk") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"key": OTHER_KEY},
        {"kid": "unknown"},
        {"iss": "https://evil.test/"},
        {"iss": ISSUER.rstrip("/")},
        {"aud": "another"},
        {"aud": ["specola-hub", "other"]},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"nonce": "of another login"},
    ],
)
async def test_a_bad_id_token_is_not_believed(fake: FakeIssuer, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Tampered, foreign, expired, for somebody else or of another login."""
    fake.nonce = "n"
    token = fake.id_token(**changes)
    with pytest.raises(Untrusted) as error:
        await fake.provider(settings(tmp_path)).identity(token, nonce="n")
    assert token not in str(error.value)


@pytest.mark.parametrize("token", [None, 3, "", "a.b.c"])
async def test_no_id_token_is_not_believed(fake: FakeIssuer, tmp_path: Path, token: object) -> None:
    with pytest.raises(Untrusted):
        await fake.provider(settings(tmp_path)).identity(token)


async def test_the_key_set_is_not_read_for_every_bad_token(fake: FakeIssuer, tmp_path: Path) -> None:
    provider = fake.provider(settings(tmp_path))
    for _ in range(3):
        with pytest.raises(Untrusted):
            await provider.identity(fake.id_token(kid="unknown"))
    assert fake.asked.count("jwk") == 1


@pytest.mark.parametrize("keys", [{}, {"keys": []}, {"keys": "x"}, {"keys": [3]}])
async def test_a_broken_key_set_is_not_believed(fake: FakeIssuer, tmp_path: Path, keys: dict[str, Any]) -> None:
    fake.answers["jwk"] = status(200, keys)
    with pytest.raises(Untrusted):
        await fake.provider(settings(tmp_path)).identity(fake.id_token())
