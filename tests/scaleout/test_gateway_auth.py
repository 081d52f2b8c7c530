"""Who the gateway takes for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from dask_gateway_server.models import User
from dask_gateway_server.routes import api_handler
from specola.core import log
from specola.scaleout.adapters.gateway_auth import GatewayAuthenticator, Person, in_headers

from scaleout.rig import ACCESS, StandInHub

# upstream reads plain string keys, and ignores this warning itself
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
Gate = TestClient[web.Request, web.Application]


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    made = StandInHub()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def met() -> list[User]:
    return []


@pytest.fixture
async def gate(hub: StandInHub, met: list[User]) -> AsyncIterator[Gate]:
    """One route that says who asked."""

    async def who(request: web.Request) -> web.Response:
        user = request["user"]
        return web.json_response({"name": user.name, "groups": sorted(user.groups), "request": log.request_id.get()})

    authenticator = GatewayAuthenticator(
        hub_api_url=f"http://127.0.0.1:{hub.server_port}/hub/api", service_token="the-service"
    )
    app = web.Application()
    app.router.add_get("/who", api_handler(who, user_authenticated=True))
    app["authenticator"] = authenticator
    app["backend"] = SimpleNamespace(meet=met.append)
    await authenticator.setup(app)
    async with TestClient(TestServer(app)) as client:
        yield client
    await authenticator.cleanup()


async def ask(gate: Gate, token: str, scheme: str = "jupyterhub", **headers: str) -> tuple[int, dict[str, str]]:
    answer = await gate.get("/who", headers={"Authorization": f"{scheme} {token}", **headers})
    return answer.status, await answer.json()


@pytest.mark.parametrize("scheme", ["jupyterhub", "token", "Bearer"])
async def test_a_person_with_their_groups(gate: Gate, hub: StandInHub, met: list[User], scheme: str) -> None:
    status, who = await ask(gate, hub.token("anna", "physics", "ml"), scheme, **{"X-Request-ID": "abcd1234"})
    assert status == 200
    assert who == {"name": "anna", "groups": ["ml", "physics"], "request": "abcd1234"}
    assert met[0].name == "anna"


async def test_the_answer_is_remembered_for_seconds_and_then_asked_again(
    gate: Gate, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revoked token is refused soon."""
    now = [1000.0]
    monkeypatch.setattr("specola.scaleout.adapters.gateway_auth.time", SimpleNamespace(monotonic=lambda: now[0]))
    token = hub.token("anna")
    assert (await ask(gate, token))[0] == 200
    assert (await ask(gate, token))[0] == 200
    assert hub.asked == 1
    del hub.tokens[token]
    now[0] += 4.9
    assert (await ask(gate, token))[0] == 200
    now[0] += 0.2
    assert (await ask(gate, token))[0] == 401


async def test_no_cookie_replaces_a_token(gate: Gate, hub: StandInHub) -> None:
    """Upstream's cookie would outlive the token, and mix people up who share a connection."""
    answer = await gate.get("/who", headers={"Authorization": f"token {hub.token('anna')}"})
    assert answer.cookies == {}
    assert (await gate.get("/who")).status == 401


@pytest.mark.parametrize(
    ("scopes", "kind"), [((), "user"), (("access:services!service=other",), "user"), ((ACCESS,), "service")]
)
async def test_a_token_without_the_right_is_refused(
    gate: Gate, hub: StandInHub, scopes: tuple[str, ...], kind: str
) -> None:
    token = hub.token("anna", scopes=scopes, kind=kind)
    status, said = await ask(gate, token)
    assert status == 401
    assert token not in str(said)


async def test_a_hub_that_is_away_is_said_so(gate: Gate, hub: StandInHub) -> None:
    """502, not 401: nobody is logged out by it. What it said is not remembered."""
    token = hub.token("anna")
    hub.broken = True
    assert (await ask(gate, token))[0] == 502
    hub.broken = False
    assert (await ask(gate, token))[0] == 200


async def test_a_hub_that_does_not_listen(gate: Gate, hub: StandInHub) -> None:
    gate.app["authenticator"].hub_api_url = "http://127.0.0.1:1/hub/api"
    assert (await ask(gate, hub.token("anna")))[0] == 502


async def test_the_service_asks_for_a_person(gate: Gate) -> None:
    """Names and groups with any character arrive as they were."""
    status, who = await ask(gate, "the-service", "token", **in_headers("j. müller, x", ["a,b", "ü"]))
    assert status == 200
    assert who["name"] == "j. müller, x"
    assert who["groups"] == ["a,b", "ü"]
    assert (await ask(gate, "the-service"))[0] == 401
    alone = in_headers("anna", [])
    del alone["X-Specola-Groups"]
    assert (await ask(gate, "the-service", **alone))[0] == 401
    assert (await ask(gate, "the-servicf", **in_headers("anna", [])))[0] == 401


async def test_without_a_secret_nobody_is_the_service() -> None:
    authenticator = GatewayAuthenticator()
    assert not authenticator.is_service("")
    await authenticator.cleanup()


def test_somebody_elses_cluster_is_not_there() -> None:
    cluster = SimpleNamespace(username="anna")
    assert Person("anna").has_permissions(cluster)
    with pytest.raises(web.HTTPNotFound):
        Person("marco").has_permissions(cluster)
