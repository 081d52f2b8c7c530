"""A strict fake issuer on httpx's mock transport: it answers what a test tells it to, and checks what it is asked."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from specola.identity.adapters.provider import Provider
from specola.identity.model import IdentitySettings, Role

ISSUER = "https://iam.test/"
SECRET = "planted client:secret/0002"
KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
GROUPS = {"physics": ((Role.USER,), ("dora",)), "ops": ((Role.ADMIN,), ())}

Answer = Callable[[httpx.Request], httpx.Response]


def settings(place: Path, **more: Any) -> IdentitySettings:
    values: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": "specola-hub",
        "client_secret": SECRET,
        "callback_url": "https://hub.test/hub/oauth_callback",
        "database": place / "specola.sqlite",
        "groups": GROUPS,
    }
    return IdentitySettings(**(values | more))


class FakeIssuer:
    """State of the issuer: what is in `info`, which tokens are good; `answers` overrides an endpoint."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {"sub": "s-1", "preferred_username": "anna", "name": "Anna", "groups": ["physics"]}
        self.claims: dict[str, Any] = {}
        self.good_refresh = "planted-refresh-1"
        self.good_access: set[str] = set()
        self.count = 0
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.discovery: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}authorize",
            "token_endpoint": f"{ISSUER}token",
            "userinfo_endpoint": f"{ISSUER}userinfo",
            "jwks_uri": f"{ISSUER}jwk",
        }
        self.nonce = ""

    def provider(self, config: IdentitySettings, pauses: tuple[float, ...] = ()) -> Provider:
        return Provider(config, transport=httpx.MockTransport(self.handle), pauses=pauses)

    def handle(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rsplit("/", 1)[-1]
        self.asked.append(name)
        if name in self.answers:
            return self.answers[name](request)
        return {
            "openid-configuration": self._discovery,
            "jwk": self._jwk,
            "token": self._token,
            "userinfo": self._userinfo,
        }[name](request)

    def id_token(self, key: rsa.RSAPrivateKey = KEY, kid: str | None = "k1", **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "specola-hub", "sub": self.info["sub"], "iat": now, "exp": now + 60}
        claims |= {"nonce": self.nonce} | self.claims | changes
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, "RS256", headers)

    def tokens(self) -> dict[str, Any]:
        self.count += 1
        self.good_refresh = f"planted-refresh-{self.count + 1}"
        access = f"planted-access-{self.count}"
        self.good_access = {access}
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": self.good_refresh,
            "scope": "openid profile",
            "id_token": self.id_token(),
        }

    def _discovery(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=self.discovery)

    def _jwk(self, request: httpx.Request) -> httpx.Response:
        key = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        return httpx.Response(200, json={"keys": [key | {"kid": "k1", "use": "sig", "alg": "RS256"}]})

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        self._check_client(request, form)
        if form["grant_type"] == "authorization_code":
            assert form["redirect_uri"] == "https://hub.test/hub/oauth_callback"
            good = (form["code"], form["code_verifier"]) == ("the-code", "the-verifier")
        else:
            good = form["refresh_token"] == self.good_refresh
        if good:
            return httpx.Response(200, json=self.tokens())
        planted = {"error": "invalid_grant", "error_description": f"planted {form}"}
        return httpx.Response(400, json=planted)

    def _check_client(self, request: httpx.Request, form: dict[str, str]) -> None:
        if "Authorization" in request.headers:
            value = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
            assert value == "specola-hub:planted%20client%3Asecret%2F0002"
        else:
            assert (form["client_id"], form["client_secret"]) == ("specola-hub", SECRET)

    def _userinfo(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if token not in self.good_access:
            return httpx.Response(401, json={"error": "invalid_token"})
        return httpx.Response(200, content=json.dumps(self.info))


def status(code: int, body: Any = None) -> Answer:
    return lambda _request: httpx.Response(code, json=body)


def away(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("planted")


def lost(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("planted")


def one_by_one(*answers: Answer) -> Answer:
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        return left.pop(0)(request)

    return answer
