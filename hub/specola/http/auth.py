"""Who is asking: a token in the header, or a browser that logged in through the hub's OAuth.

Each token is looked up at the hub and remembered for at most five seconds, so a revocation holds
here within that time. A browser's request must prove that our own page made it (`X-XSRFToken`);
without the proof it is refused, and never redirected: a fetch would follow for ever.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any, Protocol

from jupyterhub.services.auth import HubOAuth
from tornado.web import RequestHandler

from specola.core.errors import Forbidden, Unauthenticated
from specola.core.scopes import SERVICE_NAME
from specola.http.route import ANYBODY, PUBLIC, Caller, Route

REMEMBERED = 5.0
MOST_REMEMBERED = 4096
PREFIX = f"/services/{SERVICE_NAME}/"
_SERVER = re.compile(r"access:servers!server=([^/]+)/(.*)")
_HEADER = re.compile(r"(?:token|bearer)\s+(\S+)\s*", re.IGNORECASE)


class Owner(Protocol):
    """Whose a token is, as the hub says it."""

    @property
    def name(self) -> str:
        """Login name, or the service's."""
        ...

    @property
    def kind(self) -> str:
        """`user` or `service`."""
        ...

    @property
    def admin(self) -> bool:
        """Administrator of the hub."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups at the hub."""
        ...

    @property
    def scopes(self) -> tuple[str, ...]:
        """What the token may do."""
        ...

    @property
    def token_id(self) -> str | None:
        """The token's id at the hub."""
        ...


class Tokens(Protocol):
    """Whoever knows all tokens: the hub."""

    async def owner_of(self, token: str) -> Owner | None:
        """The owner of a token, None when it is not known."""


class Lookup:
    """Whose a token is, remembered for a moment; unknown tokens too, so that guessing costs the hub little."""

    def __init__(self, hub: Tokens) -> None:
        self._hub = hub
        self._known: dict[str, tuple[float, Owner | None]] = {}

    async def owner_of(self, token: str) -> Owner | None:
        """The owner of a token as of the last few seconds."""
        key = hashlib.sha256(token.encode()).hexdigest()
        now = time.monotonic()
        found = self._known.get(key)
        if found is not None and now - found[0] < REMEMBERED:
            return found[1]
        owner = await self._hub.owner_of(token)
        if len(self._known) > MOST_REMEMBERED:
            self._known = {k: v for k, v in self._known.items() if now - v[0] < REMEMBERED}
        self._known[key] = (now, owner)
        return owner


class BrowserSession(HubOAuth):
    """JupyterHub's own OAuth client and cookie, with our lookup in place of its five-minute cache."""

    lookup: Lookup

    async def user_for_token(self, token: str, *_args: object, **_options: object) -> dict[str, Any] | None:
        """Called by JupyterHub's code with the token of a cookie or of a login."""
        owner = await self.lookup.owner_of(token)
        return (
            None
            if owner is None
            else {"name": owner.name, "kind": owner.kind, "scopes": list(owner.scopes), "owner": owner}
        )


def browser_session(
    lookup: Lookup, api_url: str, token: str, *, hub_prefix: str = "/hub/", host: str = ""
) -> BrowserSession:
    """The OAuth client `service-specola`, configured without the process environment."""
    session = BrowserSession(
        api_url=api_url,
        api_token=token,
        base_url=PREFIX,
        hub_prefix=hub_prefix,
        hub_host=host,
        oauth_client_id=f"service-{SERVICE_NAME}",
        oauth_redirect_uri=f"{PREFIX}oauth_callback",
        access_scopes={f"access:services!service={SERVICE_NAME}"},
        cache_max_age=1,
    )
    session.lookup = lookup
    return session


def caller_of(owner: Owner) -> Caller:
    """The caller behind a token."""
    servers = [m for m in map(_SERVER.fullmatch, owner.scopes) if m and m[1] == owner.name]
    return Caller(
        name=owner.name if owner.kind == "user" else f"service:{owner.name}",
        groups=owner.groups,
        scopes=frozenset(owner.scopes),
        token_id=owner.token_id,
        server=servers[0][2] if len(servers) == 1 else None,
        kind=owner.kind,
        admin=owner.admin,
    )


class Doorkeeper:
    """Finds the caller of a request and refuses those without the route's scope."""

    def __init__(self, lookup: Lookup, session: BrowserSession) -> None:
        self._lookup = lookup
        self.session = session

    async def admit(self, handler: RequestHandler, route: Route) -> Caller:
        """The caller, or the error that they get: 401 for nobody, 403 for somebody without the right."""
        if route.scope == PUBLIC:
            return ANYBODY
        return self.check(await self._caller(handler), route)

    @staticmethod
    def check(caller: Caller, route: Route) -> Caller:
        """The caller again if they may use the route."""
        if not caller.may(route.scope):
            raise Forbidden("You may not do this", f"It needs the scope `{route.scope}`.")
        return caller

    async def _caller(self, handler: RequestHandler) -> Caller:
        header = handler.request.headers.get("Authorization")
        if header is not None:
            match = _HEADER.fullmatch(header.strip())
            owner = await self._lookup.owner_of(match[1]) if match else None
        else:
            owner = await self._browser(handler)
        if owner is None:
            raise Unauthenticated("Log in first", "The token is missing, wrong or has expired.")
        return caller_of(owner)

    async def visitor(self, handler: RequestHandler) -> Caller | None:
        """Who follows a link in a browser; None when they have to log in first."""
        owner = await self._browser(handler)
        return None if owner is None else caller_of(owner)

    async def _browser(self, handler: RequestHandler) -> Owner | None:
        cookie = handler.get_signed_cookie(self.session.cookie_name)
        if not cookie:
            return None
        # JupyterHub remembers its answer on the handler; a stream asks again and again
        vars(handler).pop("_cached_hub_user", None)
        model = await self.session.get_user(handler, sync=False)
        if model is not None:
            owner: Owner = model["owner"]
            return owner
        if await self._lookup.owner_of(cookie.decode()) is not None:
            raise Forbidden("This did not come from a page of ours", "Reload the page and try again.", reason="xsrf")
        return None
