"""A hub and a gateway small enough to read, as strict as the real ones where it matters.

What JupyterHub refuses is refused here: a token that it does not know (403), a scope that a token
lacks (403), a person or a server that is not there (404), a start of what runs and a stop of what
does not (400).
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

SERVICE_TOKEN = "service-token-" + secrets.token_hex(8)
SERVICE_SCOPES = (
    "list:users",
    "read:users",
    "read:servers",
    "servers",
    "delete:servers",
    "custom:specola:gpu",
    "custom:specola:gpu:write",
    "custom:specola:admin",
)
EVERYTHING = (
    "access:services!service=specola",
    "custom:specola:identity",
    "custom:specola:gpu",
    "custom:specola:gpu:write",
    "custom:specola:scaleout",
    "custom:specola:scaleout:write",
    "custom:specola:servers",
    "custom:specola:servers:write",
)


@dataclass
class Token:
    name: str
    scopes: tuple[str, ...] = EVERYTHING
    kind: str = "user"


@dataclass
class State:
    """Everything the hub knows, for tests to change."""

    people: dict[str, list[str]] = field(default_factory=lambda: {"anna": ["physics"], "bob": ["physics"]})
    tokens: dict[str, Token] = field(default_factory=dict)
    servers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)
    options: dict[tuple[str, str], Any] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)
    clusters: list[dict[str, Any]] = field(default_factory=list)
    start_fails: int = 0
    away: bool = False

    def token(self, name: str, scopes: tuple[str, ...] = EVERYTHING, kind: str = "user") -> str:
        """A new token of somebody."""
        value = f"tok-{secrets.token_hex(12)}"
        self.tokens[value] = Token(name, scopes, kind)
        return value

    def server(self, person: str, name: str = "", *, age: float = 0, idle: float = 0, **more: Any) -> None:
        """A server that runs since `age` seconds and was last used `idle` seconds ago."""
        now = time.time()
        self.servers[person, name] = {
            "name": name,
            "ready": True,
            "pending": None,
            "stopped": False,
            "started": datetime.fromtimestamp(now - age, UTC).isoformat(),
            "last_activity": datetime.fromtimestamp(now - idle, UTC).isoformat(),
            "url": f"/user/{person}/{name}",
            "progress_url": "",
            **more,
        }


class Handler(RequestHandler):
    state: State

    def initialize(self, state: State) -> None:
        self.state = state

    def prepare(self) -> None:
        self.state.calls.append((self.request.method, self.request.uri))
        if self.state.away:
            raise HTTPError(503)

    def write_error(self, status_code: int, **options: Any) -> None:
        error = options["exc_info"][1]
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"status": status_code, "message": getattr(error, "log_message", "")}))

    def owner(self, *wanted: str) -> Token:
        header = self.request.headers.get("Authorization", "")
        found = self.state.tokens.get(header.removeprefix("token "))
        if found is None:
            raise HTTPError(403, "Missing or invalid credentials.")
        for scope in wanted:
            if scope not in found.scopes:
                raise HTTPError(403, "Action is not authorized with current scopes; requires any of [..]")
        return found

    def model(self, name: str) -> dict[str, Any]:
        if name not in self.state.people:
            raise HTTPError(404)
        servers = {n: s for (p, n), s in self.state.servers.items() if p == name}
        return {"kind": "user", "name": name, "groups": self.state.people[name], "admin": False, "servers": servers}

    def log_exception(self, *_: Any) -> None:
        pass


class Self(Handler):
    def get(self) -> None:
        owner = self.owner()
        if owner.kind == "service":
            self.finish({"kind": "service", "name": owner.name, "scopes": list(owner.scopes), "token_id": "s1"})
            return
        self.finish(self.model(owner.name) | {"scopes": list(owner.scopes), "token_id": "t1", "servers": {}})


class Users(Handler):
    def get(self) -> None:
        self.owner("list:users", "read:servers")
        assert self.get_argument("state") == "active"
        offset, limit = int(self.get_argument("offset")), int(self.get_argument("limit"))
        names = sorted({p for p, _ in self.state.servers})
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps([self.model(n) for n in names[offset : offset + limit]]))


class User(Handler):
    def get(self, name: str) -> None:
        self.owner("read:users")
        self.finish(self.model(name))


class Server(Handler):
    def post(self, name: str, server: str = "") -> None:
        self.owner("servers")
        self.model(name)
        # as JupyterHub: an empty body stands for the options of the last start
        body = json.loads(self.request.body or b"{}")
        self.state.options[name, server] = body["user_options"] if body else self.state.options.get((name, server))
        if self.state.start_fails:
            raise HTTPError(self.state.start_fails, "You are in no group that may do this.")
        if (name, server) in self.state.servers:
            raise HTTPError(400, f"{name}:{server} is already running")
        self.state.server(name, server, ready=False, pending="spawn")
        self.set_status(202)

    def delete(self, name: str, server: str = "") -> None:
        self.owner("delete:servers")
        if (name, server) not in self.state.servers:
            raise HTTPError(404 if server else 400, f"{name}:{server} is not running")
        if self.state.servers[name, server]["pending"]:
            raise HTTPError(400, f"{name}:{server} is pending spawn")
        del self.state.servers[name, server]
        self.set_status(204)


class Progress(Handler):
    async def get(self, name: str, server: str = "") -> None:
        self.owner("read:servers")
        if not self.state.progress:
            raise HTTPError(400, "not starting")
        self.set_header("Content-Type", "text/event-stream")
        for step in self.state.progress:
            self.write(f"data: {json.dumps(step)}\n\n")
            await self.flush()


class OAuthToken(Handler):
    def post(self) -> None:
        if self.get_argument("client_secret") != SERVICE_TOKEN:
            raise HTTPError(401)
        token = self.state.codes.pop(self.get_argument("code"), None)
        if token is None:
            raise HTTPError(400)
        self.finish({"access_token": token, "token_type": "Bearer"})


class GatewayClusters(Handler):
    def get(self) -> None:
        if SERVICE_TOKEN not in self.request.headers.get("Authorization", ""):
            raise HTTPError(403)
        self.finish({"items": self.state.clusters})


class GatewayPerson(Handler):
    def delete(self, name: str) -> None:
        mine = [c["name"] for c in self.state.clusters if c["person"] == name]
        self.state.clusters = [c for c in self.state.clusters if c["person"] != name]
        self.finish({"ended": mine})


class FakeHub:
    """Both on real sockets; `port` and `gateway_port` are the OS's choice."""

    def __init__(self) -> None:
        self.state = State()
        self.state.tokens[SERVICE_TOKEN] = Token("specola", SERVICE_SCOPES, "service")
        args = {"state": self.state}
        hub = [
            (r"/hub/api/user", Self, args),
            (r"/hub/api/users", Users, args),
            (r"/hub/api/users/([^/]+)", User, args),
            (r"/hub/api/users/([^/]+)/servers?/progress", Progress, args),
            (r"/hub/api/users/([^/]+)/servers/([^/]+)/progress", Progress, args),
            (r"/hub/api/users/([^/]+)/server", Server, args),
            (r"/hub/api/users/([^/]+)/servers/([^/]+)", Server, args),
            (r"/hub/api/oauth2/token", OAuthToken, args),
        ]
        gateway = [
            (r"/api/specola/clusters", GatewayClusters, args),
            (r"/api/specola/people/([^/]+)/clusters", GatewayPerson, args),
        ]
        quiet = {"log_function": lambda _: None}
        self._servers = [HTTPServer(Application(table, **quiet)) for table in (hub, gateway)]
        self.port, self.gateway_port = (self._listen(server) for server in self._servers)

    @staticmethod
    def _listen(server: HTTPServer) -> int:
        (socket,) = bind_sockets(0, "127.0.0.1")
        server.add_socket(socket)
        port: int = socket.getsockname()[1]
        return port

    async def stop(self) -> None:
        for server in self._servers:
            server.stop()
            await server.close_all_connections()
