"""The start page: rendered here, kept alive by one small script.

Whoever has no script still sees who they are and their servers, and finds the hub's own form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self

from jinja2 import Environment, PackageLoader, StrictUndefined
from jupyterhub.services.auth import HubOAuthCallbackHandler
from tornado.routing import URLSpec

from specola import __version__
from specola.core.errors import Forbidden, NotFound, PublicError, Unauthenticated, Unavailable
from specola.core.scopes import ACCESS
from specola.facility.runtime import Runtime
from specola.http import problems
from specola.http.app import ProblemHandler, Surroundings, public_error
from specola.http.auth import PREFIX
from specola.http.openapi import BASE
from specola.identity.model import EmbeddedIdentity, Role
from specola.identity.service import IdentityService
from specola.servers.service import ServersService

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE = "GET page"
ASSET = "GET static"
STATIC: Mapping[str, str] = {
    "start.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "gpu.js": "text/javascript; charset=utf-8",
    "operator.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
templates = Environment(
    loader=PackageLoader("specola.server"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Facts:
    """What the page says about the facility itself."""

    facility: str
    notices: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    quota_gib: float | None
    idle_minutes: int
    hub: str = "/hub/"

    @classmethod
    def of(cls, runtime: Runtime) -> Self:
        """The facts of a running facility."""
        facility = runtime.facility
        remarks = []
        if not runtime.addresses.separate_accounts:
            remarks.append(
                "This mode separates nobody from anybody: every server runs under the same account of this machine."
            )
        if isinstance(facility.identity, EmbeddedIdentity):
            remarks.append("Logins are issued by this machine itself, for demonstration.")
        return cls(
            facility=facility.name,
            notices=tuple((notice.level, notice.text) for notice in facility.notices),
            remarks=tuple(remarks),
            quota_gib=facility.homes.quota_gib,
            idle_minutes=facility.servers.idle_limit // 60,
        )


def asset(name: str) -> bytes:
    """A static file of the page."""
    return (files("specola.server") / "static" / name).read_bytes()


def stamp(name: str) -> str:
    """Changes with the file, so that browsers may keep it for ever."""
    return hashlib.sha256(asset(name)).hexdigest()[:12]


class HtmlHandler(ProblemHandler):
    """A page; what goes wrong is said on a page too."""

    route_name = PAGE

    def initialize(self, surroundings: Surroundings, facts: Facts, **_rest: object) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize(surroundings)
        self.facts = facts

    def set_default_headers(self) -> None:
        """Called by tornado before anything else, and again before an error."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", CSP)

    async def prepare(self) -> None:
        """Pages are for people who follow a link; a script that fetches one gets an answer, not a login."""
        if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            raise Unauthenticated("This is a page, not a part of the API")

    def show(self, template: str, **values: Any) -> None:
        """Render a template and end the request."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        common = {
            "facts": self.facts,
            "version": __version__,
            "prefix": PREFIX,
            "stamp": stamp,
            "request_id": self.request_id,
        }
        self.finish(templates.get_template(template).render(**common, **values))

    def write_error(self, status_code: int, **options: Any) -> None:
        """Called by tornado with whatever was raised."""
        if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            super().write_error(status_code, **options)
            return
        error = public_error(options.get("exc_info", (None, None, None))[1])
        self.problem_reason = error.reason
        self.surroundings.metrics.refused(error.reason)
        self.set_status(error.status)
        if isinstance(error, Unavailable):
            # the page comes back by itself as soon as the hub does
            self.set_header("Refresh", "3")
        self.show("problem.html", error=problems.problem(error, self.request_id))


class StartPage(HtmlHandler):
    """`/services/specola/`."""

    def initialize(  # type: ignore[override]
        self, surroundings: Surroundings, facts: Facts, identity: IdentityService, servers: ServersService
    ) -> None:
        """Called by tornado for each request."""
        super().initialize(surroundings, facts)
        self.identity = identity
        self.servers = servers

    async def get(self) -> None:
        """Who is here, their servers, and what there is to know."""
        caller = await self.surroundings.doorkeeper.visitor(self)
        if caller is None:
            self.redirect(self.get_login_url())
            return
        self.caller = caller
        if not (self.caller.may(ACCESS) or self.caller.may("access:services")) or self.caller.kind != "user":
            raise Forbidden("You may not use this facility", "You are in none of the groups that may.")
        me = self.identity.me(self.caller.name, self.caller.groups, self.caller.scopes)
        hub_problem: PublicError | None = None
        items: list[dict[str, Any]] = []
        try:
            items = (await self.servers.mine(self.caller.name)).model_dump(mode="json")["items"]
        except NotFound:
            pass
        except PublicError as error:
            hub_problem = error
        home = self.servers.home(self.caller.name)
        gpus = any(right.what == "gpu" and right.allowed for right in me.rights)
        self.set_header("Cache-Control", "no-store")
        state = {
            "api": BASE,
            "health": f"{PREFIX}healthz",
            "hub": self.facts.hub,
            "user": me.name,
            "quota_gib": self.facts.quota_gib,
            "home": None if home is None else home.model_dump(mode="json"),
            "servers": None if hub_problem else items,
            "gpu": f"{PREFIX}static/gpu.js?v={stamp('gpu.js')}" if gpus else None,
        }
        self.show(
            "start.html",
            me=me,
            state=state,
            servers=items,
            hub_problem=hub_problem,
            admin=Role.ADMIN in me.roles,
            xsrf=xsrf(self),
        )


def xsrf(handler: HtmlHandler) -> str:
    """What a page's script has to send back with every change."""
    token = handler.xsrf_token
    return token.decode() if isinstance(token, bytes) else token


class Callback(HubOAuthCallbackHandler, HtmlHandler):
    """The end of the hub's OAuth; JupyterHub's own code, our pages for what goes wrong."""

    async def prepare(self) -> None:
        """Find out who is here already: a stale callback just goes home."""
        await self.surroundings.doorkeeper.visitor(self)


class Static(HtmlHandler):
    """The page's own script, style and icon; for everybody."""

    route_name = ASSET

    async def prepare(self) -> None:
        """Nothing here is anybody's."""

    def get(self, name: str) -> None:
        """One file."""
        self.set_header("Content-Type", STATIC[name])
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.finish(asset(name))


class Home(HtmlHandler):
    """The same address without its slash."""

    def get(self) -> None:
        """Go on to the page."""
        self.redirect(PREFIX)


def page_handlers(
    surroundings: Surroundings, facts: Facts, identity: IdentityService, servers: ServersService
) -> list[URLSpec]:
    """The handlers of everything that a person visits."""
    common = {"surroundings": surroundings, "facts": facts}
    names = "|".join(name.replace(".", r"\.") for name in STATIC)
    return [
        URLSpec(PREFIX + "$", StartPage, {**common, "identity": identity, "servers": servers}),
        URLSpec(PREFIX.rstrip("/") + "$", Home, common),
        URLSpec(PREFIX + "oauth_callback$", Callback, common),
        URLSpec(PREFIX + f"static/({names})$", Static, common),
    ]
