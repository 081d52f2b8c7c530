"""Who asks the gateway: people with a token of the hub, and the API service on behalf of a person."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web
from dask_gateway_server.auth import Authenticator
from dask_gateway_server.models import Cluster, User
from traitlets import Float, Unicode

from specola.core import log

SERVICE_NAME = "dask-gateway"
ACCESS = frozenset({"access:services", f"access:services!service={SERVICE_NAME}"})
PERSON_HEADER, GROUPS_HEADER = "X-Specola-User", "X-Specola-Groups"
SCHEMES = ("jupyterhub", "token", "bearer")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Known:
    """A token that the hub answered for, and until when that answer holds."""

    user: User
    until: float


def bearer(request: web.Request) -> str:
    """The token of a request, whichever of the three schemes it uses; 401 when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in SCHEMES or not token:
        raise refused("Authentication required")
    return token


def refused(why: str) -> web.HTTPUnauthorized:
    """401 as stock clients expect it: they send their token only when asked."""
    return web.HTTPUnauthorized(reason=why, headers={"WWW-Authenticate": "jupyterhub"})


class Person(User):
    """Somebody for whom other people's clusters do not exist."""

    def has_permissions(self, cluster: Cluster) -> bool:
        """Called by each route that is about one cluster; 404 rather than upstream's 403."""
        if not super().has_permissions(cluster):
            raise web.HTTPNotFound(reason="There is no such cluster of yours")
        return True


class GatewayAuthenticator(Authenticator):
    """Asks the hub whose token it is, and remembers the answer for seconds only.

    Upstream's cookies are not used: they would outlive a revoked token, and a service that asks for
    many people would send one person's cookie with the next one's request.
    """

    hub_api_url = Unicode(help="URL of the hub's REST API", config=True)
    service_token = Unicode(help="secret of the API service, which may ask on behalf of a person", config=True)
    remember = Float(5.0, help="seconds for which the hub's answer about a token holds", config=True)

    async def setup(self, app: web.Application) -> None:  # noqa: ARG002 - upstream's signature
        """Called by the gateway when it starts."""
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self.known: dict[str, Known] = {}

    async def cleanup(self) -> None:
        """Called by the gateway when it ends."""
        if hasattr(self, "session"):
            await self.session.close()

    async def authenticate_and_handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Called for each request of a person."""
        log.request_id.set(log.new_request_id(request.headers.get(log.REQUEST_ID_HEADER)))
        user = await self.authenticate(request)
        request["user"] = user
        meet = getattr(request.app["backend"], "meet", None)
        if meet is not None:
            meet(user)
        return await handler(request)

    def is_service(self, token: str) -> bool:
        """Whether the token is the API service's secret."""
        return bool(self.service_token) and hmac.compare_digest(token.encode(), self.service_token.encode())

    async def authenticate(self, request: web.Request) -> User:
        """The person of a request with their groups; 401 for everybody else."""
        token = bearer(request)
        if self.is_service(token):
            return on_behalf(request)
        return await self.owner_of(token)

    async def owner_of(self, token: str) -> User:
        """Whose token it is, from memory or from the hub."""
        now, digest = time.monotonic(), hashlib.sha256(token.encode()).hexdigest()
        self.known = {key: known for key, known in self.known.items() if known.until > now}
        if digest not in self.known:
            self.known[digest] = Known(await self.ask_hub(token), now + self.remember)
        return self.known[digest].user

    async def ask_hub(self, token: str) -> User:
        """The hub's answer about a token; 502 when there is none."""
        try:
            async with self.session.get(
                f"{self.hub_api_url}/user", headers={"Authorization": f"token {token}"}
            ) as answer:
                if answer.status in (401, 403, 404):
                    raise refused("The hub does not know this token")
                if answer.status != HTTPStatus.OK:
                    raise web.HTTPBadGateway(reason="The hub does not answer as it should")
                data = await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            raise web.HTTPBadGateway(reason="The hub does not answer") from None
        if data.get("kind") != "user":
            raise refused("This token does not belong to a person")
        if not ACCESS & set(data.get("scopes", ())):
            raise refused("This token may not use Dask clusters")
        return Person(data["name"], groups=data.get("groups", []))


def in_headers(person: str, groups: Collection[str]) -> dict[str, str]:
    """For whom the API service asks; quoted, since a header takes ASCII only."""
    return {PERSON_HEADER: quote(person, safe=""), GROUPS_HEADER: ",".join(quote(group, safe="") for group in groups)}


def on_behalf(request: web.Request) -> User:
    """The person for whom the API service asks; it says their groups, too: what is remembered of them is a budget."""
    person = unquote(request.headers.get(PERSON_HEADER, ""))
    if not person or GROUPS_HEADER not in request.headers:
        raise refused(f"{PERSON_HEADER} or {GROUPS_HEADER} is missing")
    groups = request.headers[GROUPS_HEADER].split(",")
    return Person(person, groups=[unquote(group) for group in groups if group])
