"""The watch over everybody who has something running, with a hub in memory."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fake_issuer import settings
from jupyterhub import orm
from specola.identity.adapters import watch as module
from specola.identity.adapters.watch import Watch


class Spawner:
    """One server of somebody."""

    def __init__(self, *, active: bool = True, pending: str | None = None) -> None:
        self.active = active
        self.pending = pending
        self._log_name = "anna:"
        self._spawn_future: asyncio.Future[None] | None = None
        self._stop_pending = False


class User:
    """A user of the hub with one row in its database."""

    def __init__(self, db: Any, name: str, spawners: dict[str, Spawner], state: dict[str, Any] | None) -> None:
        self.name = name
        self.spawners = spawners
        self.state = state
        self.stopped: list[str] = []
        self.groups: list[str] = ["physics"]
        self.orm_user = orm.User(name=name)
        db.add(self.orm_user)
        db.commit()

    async def get_auth_state(self) -> dict[str, Any] | None:
        return self.state

    async def save_auth_state(self, state: dict[str, Any] | None) -> None:
        self.state = state

    def sync_groups(self, groups: list[str]) -> None:
        self.groups = groups

    async def stop(self, name: str) -> None:
        assert self.spawners[name]._stop_pending
        self.stopped.append(name)
        self.spawners[name].active = False


class Keeper:
    """The authenticator, answering what the test says."""

    def __init__(self, place: Path, **more: Any) -> None:
        self.settings = settings(place, **more)
        self.log = logging.getLogger("keeper")
        self.answer: Any = True
        self.asked: list[str] = []
        self.often = asyncio.Event()
        self._lock = asyncio.Lock()

    def lock(self, name: str) -> asyncio.Lock:
        return self._lock

    async def refresh_user(self, user: User) -> Any:
        self.asked.append(user.name)
        if len(self.asked) == 3:
            self.often.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Users(dict[int, User]):
    """The hub's users: by id, and by row."""

    def __getitem__(self, key: Any) -> User:
        return super().__getitem__(key.id if isinstance(key, orm.User) else key)


class Service:
    """The API service's seam for clusters."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any, str]] = []
        self.answer: Any = {"items": []}
        self.status = 200

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, body, request.headers["Authorization"]))
        if request.method == "POST":
            return httpx.Response(204)
        return httpx.Response(self.status, json=self.answer)


class Hub:
    """Everything that a watch looks at."""

    def __init__(self, place: Path) -> None:
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        self.users = Users()
        self.proxy = SimpleNamespace(delete_user=self.delete_user)
        self.routes_deleted: list[str] = []
        self.service = Service()
        self.keeper = Keeper(place, on_revoked="http://127.0.0.1:9/clusters", on_revoked_token="t")
        self.watch = Watch(self.keeper, self, self.service.client)

    async def delete_user(self, user: User, name: str) -> None:
        self.routes_deleted.append(name)

    def person(self, name: str, state: dict[str, Any] | None = None, **spawners: Spawner) -> User:
        user = User(self.db, name, spawners, state)
        self.users[user.orm_user.id] = user
        return user


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


async def test_only_who_has_something_running_is_asked_about(hub: Hub) -> None:
    """A server, or a cluster that the service tells of; somebody whom the hub does not know is left alone."""
    hub.person("anna", server=Spawner())
    hub.person("marco", server=Spawner(active=False))
    hub.person("dora")
    hub.service.answer = {"items": ["dora", "stranger", 3]}
    await hub.watch.look()
    assert sorted(hub.keeper.asked) == ["anna", "dora"]
    assert hub.service.requests == [("GET", None, "Bearer t")]


async def test_new_groups_count_at_once(hub: Hub) -> None:
    user = hub.person("anna", server=Spawner())
    hub.keeper.answer = {"groups": ["ops"]}
    await hub.watch.look()
    assert user.groups == ["ops"]


async def test_one_persons_trouble_does_not_end_the_watch(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    hub.person("anna", server=Spawner())
    hub.person("marco", server=Spawner())
    hub.keeper.answer = RuntimeError("x")
    await hub.watch.look()
    assert sorted(hub.keeper.asked) == ["anna", "marco"]
    assert "Cannot look after anna" in caplog.text


async def test_a_slow_look_is_not_doubled(hub: Hub) -> None:
    hub.person("anna", server=Spawner())
    await asyncio.gather(hub.watch.look(), hub.watch.look())
    assert hub.keeper.asked == ["anna"]


async def test_an_ended_right_ends_everything(hub: Hub) -> None:
    """Cookie, tokens, groups, servers with their routes, and clusters."""
    state = {"access_token": "a", "refresh_token": "r", "specola": {}}
    user = hub.person("anna", state, one=Spawner(), two=Spawner(), off=Spawner(active=False))
    hub.db.add(orm.APIToken(user=user.orm_user, prefix="x", hashed="y"))
    hub.db.commit()
    cookie = user.orm_user.cookie_id
    hub.watch.revoke_soon(user, state, "gone away")
    hub.watch.revoke_soon(user, state, "gone away")
    await hub.watch.idle()
    assert user.stopped == hub.routes_deleted == ["one", "two"]
    assert user.groups == []
    assert user.orm_user.cookie_id != cookie
    assert user.orm_user.api_tokens == []
    assert user.state == {"specola": {"gone": "gone away"}}
    assert hub.service.requests == [("POST", {"name": "anna"}, "Bearer t")]


async def test_whoever_has_logged_in_again_is_left_alone(hub: Hub) -> None:
    user = hub.person("anna", {"access_token": "new"}, one=Spawner())
    hub.watch.revoke_soon(user, {"access_token": "old"}, "why")
    await hub.watch.idle()
    user.state = None
    hub.watch.revoke_soon(user, {"access_token": "old"}, "why")
    await hub.watch.idle()
    assert user.stopped == []


async def test_a_server_that_is_starting_is_waited_for_and_stopped(hub: Hub) -> None:
    state = {"access_token": "a"}
    spawner = Spawner(active=False, pending="spawn")
    user = hub.person("anna", state, one=spawner)
    spawner._spawn_future = asyncio.get_running_loop().create_future()
    hub.watch.revoke_soon(user, state, "why")
    await asyncio.sleep(0.01)
    spawner.active, spawner.pending = True, None
    spawner._spawn_future.set_result(None)
    await hub.watch.idle()
    assert user.stopped == ["one"]


async def test_a_server_that_is_stopping_is_left_alone(hub: Hub) -> None:
    state = {"access_token": "a"}
    user = hub.person("anna", state, one=Spawner(pending="stop"))
    hub.watch.revoke_soon(user, state, "why")
    await hub.watch.idle()
    assert user.stopped == []


async def test_a_proxy_that_is_away_does_not_keep_a_server(hub: Hub) -> None:
    async def broken(user: User, name: str) -> None:
        raise OSError

    hub.proxy.delete_user = broken
    user = hub.person("anna", {"access_token": "a"}, one=Spawner())
    hub.watch.revoke_soon(user, {"access_token": "a"}, "why")
    await hub.watch.idle()
    assert user.stopped == ["one"]


async def test_what_could_not_be_ended_is_tried_again(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """The state says `gone`, so that the next look comes here again."""
    user = hub.person("anna", {"access_token": "a"}, one=Spawner())
    stop, user.stop = user.stop, None  # type: ignore[assignment]
    hub.watch.revoke_soon(user, {"access_token": "a"}, "why")
    await hub.watch.idle()
    assert "the next look tries again" in caplog.text
    user.stop = stop
    hub.watch.revoke_soon(user, user.state or {}, "why")
    await hub.watch.idle()
    assert user.stopped == ["one"]


async def test_a_service_that_is_away_does_not_end_the_watch(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    hub.person("anna", server=Spawner())
    hub.service.status = 503
    await hub.watch.look()
    hub.service.status, hub.service.answer = 200, ["not", "a", "dict"]
    await hub.watch.look()
    assert hub.keeper.asked == ["anna", "anna"]
    assert "did not answer about clusters" in caplog.text


async def test_there_may_be_no_service(hub: Hub, tmp_path: Path) -> None:
    hub.keeper.settings = settings(tmp_path)
    watch = Watch(hub.keeper, hub)
    hub.person("anna", server=Spawner())
    await watch.look()
    assert hub.service.requests == []
    await watch._client().aclose()


async def test_it_looks_soon_and_then_at_intervals(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look does not wait for the whole interval: a hub may restart often."""
    monkeypatch.setattr(module, "FIRST_LOOK", 0.01)
    hub.keeper.settings = settings(tmp_path, recheck_interval=0.05)
    hub.person("anna", server=Spawner())
    hub.watch.stop()
    hub.watch.start()
    async with asyncio.timeout(60):
        await hub.keeper.often.wait()
    hub.watch.stop()
