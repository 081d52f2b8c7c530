# ruff: noqa: SLF001 - JupyterHub stops servers through these, and offers no public way from inside
"""The hub's watch over everybody who has something running (tested against JupyterHub 6.1.1).

Every 15 minutes each of them is looked up at the issuer. When the right is gone, their sessions and tokens end,
their servers stop, and the service is told to stop their clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Protocol

import httpx
from jupyterhub import orm
from tornado.ioloop import IOLoop, PeriodicCallback

from specola.identity import auth_state
from specola.identity.model import IdentitySettings

FIRST_LOOK = 60.0
AT_ONCE = 4
STOP_TIMEOUT = 60.0
HTTP_TIMEOUT = 10.0


class Keeper(Protocol):
    """What the watch needs of the authenticator."""

    settings: IdentitySettings
    log: logging.Logger

    def lock(self, name: str) -> asyncio.Lock:
        """Held by whoever reads or writes somebody's tokens."""

    async def refresh_user(self, user: Any) -> bool | dict[str, Any]:
        """Ask the issuer about somebody; ends in `Watch.revoke_soon` when their right is gone."""


class Watch:
    """Looks after the people of one hub."""

    def __init__(self, keeper: Keeper, app: Any, client: Callable[[], httpx.AsyncClient] | None = None) -> None:
        self._keeper = keeper
        self._app = app
        self._log = keeper.log
        self._client = client or (lambda: httpx.AsyncClient(timeout=HTTP_TIMEOUT, trust_env=False))
        self._looking = asyncio.Lock()
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._clock: PeriodicCallback | None = None

    def start(self) -> None:
        """Look soon, because a hub that restarts often must not escape it, and then at each interval."""
        interval = self._keeper.settings.recheck_interval
        IOLoop.current().call_later(min(FIRST_LOOK, interval), self.look)
        self._clock = PeriodicCallback(self.look, interval * 1000, jitter=0.1)
        self._clock.start()

    def stop(self) -> None:
        """Look no more."""
        if self._clock is not None:
            self._clock.stop()

    async def look(self) -> None:
        """Ask the issuer about everybody who has something running."""
        if self._looking.locked():
            return
        async with self._looking:
            limit = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._look_at(name, limit) for name in sorted(await self._who_runs())))

    def revoke_soon(self, user: Any, seen: auth_state.State, why: str) -> None:
        """End what somebody has, outside the request that found it out; once at a time for each person."""
        if user.name not in self._ending:
            task = asyncio.ensure_future(self._revoke(user, seen, why))
            self._ending[user.name] = task
            task.add_done_callback(lambda _: self._ending.pop(user.name, None))

    async def idle(self) -> None:
        """Wait until everything that was to end has ended."""
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def _look_at(self, name: str, limit: asyncio.Semaphore) -> None:
        async with limit:
            try:
                user = self._user(name)
                model = None if user is None else await self._keeper.refresh_user(user)
            except Exception:  # noqa: BLE001 - whatever it is
                # One person's trouble must not end the watch over the others.
                self._log.exception("Cannot look after %s", name)
                return
            if user is not None and isinstance(model, dict):
                user.sync_groups(model["groups"])
                self._app.db.commit()

    async def _who_runs(self) -> set[str]:
        active = self._app.db.query(orm.Spawner).filter(orm.Spawner.server_id.isnot(None))
        names = {spawner.user.name for spawner in active}
        names |= {user.name for user in self._app.users.values() if any(s.active for s in user.spawners.values())}
        return names | await self._who_has_clusters()

    def _user(self, name: str) -> Any | None:
        found = orm.User.find(self._app.db, name)
        return None if found is None else self._app.users[found]

    async def _revoke(self, user: Any, seen: auth_state.State, why: str) -> None:
        try:
            async with self._keeper.lock(user.name):
                state = await user.get_auth_state()
                if not state or state.get("access_token") != seen.get("access_token"):
                    # They have logged in again meanwhile.
                    return
                await user.save_auth_state(auth_state.gone(state, why))
                self._close_sessions(user)
            await self._stop_clusters(user.name)
            for name, spawner in list(user.spawners.items()):
                await self._stop_server(user, name, spawner)
        except Exception:  # noqa: BLE001 - nobody waits for this task
            self._log.exception("Could not end everything that %s has; the next look tries again", user.name)

    def _close_sessions(self, user: Any) -> None:
        """Cookies, tokens and groups: whatever lets somebody in or allows something."""
        user.orm_user.cookie_id = orm.new_token()
        for token in list(user.orm_user.api_tokens):
            self._app.db.delete(token)
        user.sync_groups([])
        self._app.db.commit()

    async def _stop_server(self, user: Any, name: str, spawner: Any) -> None:
        if spawner.pending == "spawn" and spawner._spawn_future is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(asyncio.shield(spawner._spawn_future), STOP_TIMEOUT)
        if not spawner.active or spawner.pending:
            return
        self._log.warning("Stopping %s", spawner._log_name)
        spawner._stop_pending = True
        try:
            with contextlib.suppress(Exception):
                # A proxy that is away forgets its routes anyway.
                await self._app.proxy.delete_user(user, name)
            await user.stop(name)
        finally:
            spawner._stop_pending = False

    async def _who_has_clusters(self) -> set[str]:
        answer = await self._ask_service("GET")
        items = answer.get("items", []) if isinstance(answer, dict) else []
        return {name for name in items if isinstance(name, str)}

    async def _stop_clusters(self, name: str) -> None:
        await self._ask_service("POST", {"name": name})

    async def _ask_service(self, method: str, body: dict[str, str] | None = None) -> Any:
        """The service's answer; None when there is no such seam, or it does not answer now."""
        settings = self._keeper.settings
        if settings.on_revoked is None:
            return None
        headers = {"Authorization": f"Bearer {settings.on_revoked_token}"}
        try:
            async with self._client() as client:
                answer = await client.request(method, settings.on_revoked, json=body, headers=headers)
                answer.raise_for_status()
                return answer.json() if answer.content else None
        except (httpx.HTTPError, ValueError) as error:
            self._log.warning("The service did not answer about clusters: %s", type(error).__name__)
            return None
