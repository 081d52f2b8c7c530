"""The embedded issuer over real HTTP."""

from __future__ import annotations

import json
import stat
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from identity_rig import PEOPLE, SECRET, Client, RunningIssuer, form_token, issuer_running
from specola.identity.issuer.settings import CLIENT_ID


def location(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def decode(client: Client, token: str, audience: str) -> dict[str, object]:
    key = jwt.PyJWKClient(f"{client.issuer.url}jwk").get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=client.issuer.url)


def test_login_gives_the_tokens_that_iam_gives(client: Client) -> None:
    """Access token of the WLCG profile, id token with the nonce, userinfo with groups without slash."""
    tokens = client.login()
    access = decode(client, tokens["access_token"], "https://wlcg.cern.ch/jwt/v1/any")
    assert {"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "client_id", "scope"} <= set(access)
    assert access["wlcg.ver"] == "1.0"
    assert access["wlcg.groups"] == ["/physics", "/ml-infn/gpu"]
    assert decode(client, tokens["id_token"], CLIENT_ID)["nonce"] == "the-nonce"
    info = client.userinfo(tokens["access_token"]).json()
    assert info["sub"] == access["sub"] != "anna"
    assert (info["preferred_username"], info["name"]) == ("anna", "Anna Rossi")
    assert info["groups"] == ["physics", "ml-infn/gpu"]
    assert info["entitlements"][1].endswith(":group:ml-infn:gpu")


def test_scopes_decide_what_is_said(client: Client) -> None:
    """With `openid` alone there is a subject, no name, no group and no refresh token."""
    tokens = client.login(scope="openid unknown")
    assert "refresh_token" not in tokens
    assert tokens["scope"] == "openid"
    assert set(client.userinfo(tokens["access_token"]).json()) == {"sub"}


def test_discovery_names_the_public_issuer(client: Client) -> None:
    document = client.http.get(".well-known/openid-configuration").json()
    assert document["issuer"] == client.issuer.url
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert client.http.get("healthz").json() == {"status": "ok"}
    assert client.http.get("nothing").status_code == 404


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
        ({"nonce": "n" * 3000}, "invalid_request"),
    ],
)
def test_a_wrong_request_goes_back_to_the_client(client: Client, changes: dict[str, str | None], error: str) -> None:
    """PKCE with S256 is demanded; the client hears the error and its state."""
    back = location(client.page(**changes))
    assert (back["error"], back["state"]) == (error, "the-state")


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "http://127.0.0.1:1/hub/oauth_callback/"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": None},
        {"client_id": "another"},
    ],
)
def test_a_stranger_is_never_redirected(client: Client, changes: dict[str, str | None]) -> None:
    """Unknown client or redirect: a page, no `Location`, and nothing of the request on it."""
    answer = client.page(**changes)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "evil.example" not in answer.text


def test_a_repeated_parameter_is_refused(client: Client) -> None:
    answer = client.http.get(f"authorize?{client.query()}&state=two")
    assert location(answer)["error"] == "invalid_request"


def test_a_code_works_once_and_its_second_use_ends_the_session(client: Client) -> None:
    code = client.code()
    tokens = client.redeem(code).json()
    again = client.redeem(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert client.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": "short"},
        {"redirect_uri": "http://127.0.0.1:1/hub/"},
        {"code": "unknown"},
    ],
)
def test_a_code_needs_its_verifier_and_its_redirect(client: Client, changes: dict[str, str]) -> None:
    code = client.code()
    assert client.redeem(code, **changes).json()["error"] == "invalid_grant"
    if "code" not in changes:
        assert client.redeem(code).json()["error"] == "invalid_grant", "a failed try uses the code up"


def test_a_missing_verifier_is_an_invalid_request(client: Client) -> None:
    form = {"grant_type": "authorization_code", "code": client.code(), "redirect_uri": "x"}
    assert client.token(**form).json()["error"] == "invalid_request"


def test_a_code_expires(tmp_path: Path) -> None:
    with issuer_running(tmp_path, code_life=-1) as issuer:
        client = Client(issuer)
        assert client.redeem(client.code()).json()["error"] == "invalid_grant"


def test_refresh_rotates(client: Client) -> None:
    """Each refresh gives a new refresh token and a new access token."""
    first = client.login()
    second = client.refresh(first["refresh_token"]).json()
    third = client.refresh(second["refresh_token"]).json()
    assert len({one["refresh_token"] for one in (first, second, third)}) == 3
    assert "nonce" not in decode(client, third["id_token"], CLIENT_ID)
    assert client.userinfo(third["access_token"]).status_code == 200


def test_reuse_of_a_refresh_token_revokes_the_family(client: Client) -> None:
    """Once the successor is used, the old token tells of a thief: both end."""
    first = client.login()
    second = client.refresh(first["refresh_token"]).json()
    third = client.refresh(second["refresh_token"]).json()
    assert client.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert client.refresh(third["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_lost_answer_is_forgiven_once_its_successor_is_unused(client: Client) -> None:
    """The same token within the grace gives another successor, and the lost one is dead."""
    first = client.login()
    lost = client.refresh(first["refresh_token"]).json()
    found = client.refresh(first["refresh_token"])
    assert found.status_code == 200
    assert client.refresh(lost["refresh_token"]).json()["error"] == "invalid_grant"
    assert client.refresh(found.json()["refresh_token"]).status_code == 200


def test_without_grace_a_second_use_revokes(tmp_path: Path) -> None:
    with issuer_running(tmp_path, lost_answer_grace=-1.0) as issuer:
        client = Client(issuer)
        first = client.login()
        second = client.refresh(first["refresh_token"]).json()
        assert client.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
        assert client.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"


def test_refresh_tokens_expire_and_are_purged(tmp_path: Path) -> None:
    with issuer_running(tmp_path, refresh_life=-1) as issuer:
        client = Client(issuer)
        assert client.refresh(client.login()["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("auth", [(CLIENT_ID, "wrong"), ("another", SECRET), None])
def test_the_client_must_prove_itself(client: Client, auth: tuple[str, str] | None) -> None:
    answer = client.token(auth, grant_type="refresh_token", refresh_token="x")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_the_client_may_prove_itself_in_the_body(client: Client) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": client.login()["refresh_token"]}
    body = {"client_id": CLIENT_ID, "client_secret": SECRET}
    assert client.token(None, **form, **body).status_code == 200
    assert client.token((CLIENT_ID, SECRET), **form, **body).json()["error"] == "invalid_request"


@pytest.mark.parametrize("value", ["Basic !!!", "Basic " + b64encode(b"\xff\xfe").decode()])
def test_a_broken_authorization_header_is_a_wrong_client(client: Client, value: str) -> None:
    answer = client.http.post("token", headers={"Authorization": value}, data={"grant_type": "refresh_token"})
    assert answer.json()["error"] == "invalid_client"


def test_other_grants_are_refused(client: Client) -> None:
    assert client.token(grant_type="password").json()["error"] == "unsupported_grant_type"
    assert client.token(grant_type="refresh_token").json()["error"] == "invalid_request"


def test_userinfo_refuses_anything_but_a_valid_access_token(client: Client) -> None:
    """A tampered token, an id token, no token, an unsigned token: 401 and nothing else."""
    tokens = client.login()
    header, payload, signature = tokens["access_token"].split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=="))
    forged = urlsafe_b64encode(json.dumps(claims | {"sub": "someone"}).encode()).decode().rstrip("=")
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"typ": "at+jwt"})
    for token in (f"{header}.{forged}.{signature}", tokens["id_token"], "x.y.z", unsigned):
        answer = client.userinfo(token)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    assert client.http.get("userinfo").status_code == 401


def test_an_access_token_expires(tmp_path: Path) -> None:
    with issuer_running(tmp_path, access_token_life=-1) as issuer:
        client = Client(issuer)
        assert client.userinfo(client.login()["access_token"]).status_code == 401


def test_whoever_is_no_longer_named_is_out_at_once(issuer: RunningIssuer, client: Client) -> None:
    """Userinfo, refresh and login all end; the others' passwords stay."""
    tokens = client.login("marco")
    before = dict(issuer.logins)
    issuer.people([person for person in PEOPLE if person.name != "marco"])
    assert client.userinfo(tokens["access_token"]).status_code == 401
    assert client.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert client.submit("marco", before["marco"]).status_code == 401
    assert issuer.logins["anna"] == before["anna"]
    issuer.people(PEOPLE)
    assert issuer.logins["marco"] != before["marco"]
    assert client.login("marco")["access_token"]


def test_a_wrong_password_says_so_and_too_many_wait(client: Client) -> None:
    """After five wrong ones even the right one waits, for this person only; nothing tells whether a name exists."""
    for _ in range(5):
        answer = client.submit("anna", "wrong")
        assert answer.status_code == 401
        assert "Wrong name or password" in answer.text
    waiting = client.submit("anna", client.issuer.logins["anna"])
    assert waiting.status_code == 429
    assert "Try again in" in waiting.text
    assert int(waiting.headers["retry-after"]) > 0
    assert client.login("marco")["access_token"]
    assert "Wrong name or password" in client.submit("nobody", "wrong").text


def test_a_right_password_forgives_the_wrong_ones(client: Client) -> None:
    for _ in range(2):
        for _ in range(4):
            client.submit("anna", "wrong")
        client.login()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_a_form_from_elsewhere_is_refused(client: Client, origin: str | None) -> None:
    answer = client.submit("anna", client.issuer.logins["anna"], origin=origin)
    assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")


def test_a_form_needs_the_token_of_this_browser_and_this_request(client: Client) -> None:
    password = client.issuer.logins["anna"]
    other = Client(client.issuer)
    theirs = form_token(other.page().text)
    assert client.submit("anna", password, form=theirs).status_code == 403
    of_another_request = form_token(client.page(state="another").text)
    assert client.submit("anna", password, form=of_another_request).status_code == 403
    assert client.submit("anna", password, form="").status_code == 403
    client.http.cookies.clear()
    assert client.submit("anna", password, form=of_another_request).status_code == 403


def test_a_form_for_a_wrong_request_gives_no_code(client: Client) -> None:
    answer = client.http.post(
        f"authorize?{client.query(code_challenge=None)}", headers={"Origin": client.issuer.settings.origin}
    )
    assert location(answer)["error"] == "invalid_request"


def test_the_page_is_marked_closed_and_self_contained(client: Client) -> None:
    """A demo login, that nobody can frame, cache or feed with scripts, and that loads nothing from elsewhere."""
    answer = client.page()
    assert "Demo login" in answer.text
    assert "http://" not in answer.text.replace("127.0.0.1", "")
    assert "<script" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "prefers-color-scheme: dark" in client.http.get("style.css").text


def test_what_was_typed_is_escaped(client: Client) -> None:
    answer = client.submit('"><script>x</script>', "wrong")
    assert "<script>" not in answer.text


def test_a_restart_loses_no_session(issuer: RunningIssuer, client: Client) -> None:
    """Key, codes and refresh tokens are on disk."""
    tokens, code = client.login(), client.code("marco")
    issuer.stop()
    issuer.start()
    assert client.userinfo(tokens["access_token"]).status_code == 200
    assert client.refresh(tokens["refresh_token"]).status_code == 200
    assert client.redeem(code).status_code == 200


def test_nothing_secret_is_kept_in_clear(issuer: RunningIssuer, client: Client) -> None:
    """The database holds hashes; key, database and logins are for the owner's eyes only."""
    tokens = client.login()
    place = issuer.layout.state / "issuer"
    everything = b"".join(path.read_bytes() for path in place.iterdir())
    for secret in (tokens["refresh_token"], issuer.logins["anna"], SECRET):
        assert secret.encode() not in everything
    for path in (*place.iterdir(), issuer.layout.demo_logins):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_accident_says_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(client.issuer.issuer.store, "names", broken)
    answer = client.http.get("healthz")
    assert (answer.status_code, answer.json()) == (500, {"error": "server_error"})
    assert client.http.delete("healthz").json() == {"error": "invalid_request"}
