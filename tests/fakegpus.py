"""The half of the GPU service that the spawner speaks with, as strict as the real one.

It knows the facility's token and nobody else's; a grant is one person's, for one server name, and good once; a lease is
changed by whoever names its newest fencing token. What a caller leaves out or adds is refused.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-of-the-service"
BASE = "/services/specola/api/v1/gpu/"


@dataclass
class Held:
    """A lease, and the one grant that leads to it."""

    person: str
    server: str = ""
    token: int = 1
    state: str = "offered"
    environment: dict[str, str] = field(default_factory=lambda: {"CUDA_VISIBLE_DEVICES": "MIG-7", "SPECOLA_GPU": "x"})
    text: str = "1g.5gb of an A100-40GB, simulated"


class Problem(Exception):
    """What is answered as a problem document."""

    def __init__(self, status: int, reason: str, title: str, detail: str = "") -> None:
        super().__init__(title)
        self.status = status
        self.document = {"title": title, "status": status, "detail": detail, "reason": reason, "type": "about:blank"}


@dataclass
class Gpus:
    """Everything that the service knows; tests read and change it."""

    url: str = ""
    leases: dict[str, Held] = field(default_factory=dict)
    grants: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    away: bool = False
    answer: Any = None
    """what redeem answers instead"""
    lock: threading.Lock = field(default_factory=threading.Lock)
    confirming: threading.Event = field(default_factory=threading.Event)
    """set by whoever confirms"""
    may_confirm: threading.Event = field(default_factory=threading.Event)

    def grant(self, lease: str, person: str, server: str = "", **more: Any) -> str:
        """A lease that was offered, and its grant."""
        self.leases[lease] = Held(person, server, **more)
        self.grants[f"grant-of-{lease}"] = lease
        return f"grant-of-{lease}"

    def admit(self, who: str | None) -> None:
        if self.away:
            raise Problem(503, "unavailable", "Away")
        if who != f"token {TOKEN}":
            raise Problem(401, "unauthenticated", "Nobody we know")

    def redeem(self, body: dict[str, Any]) -> Any:
        keys(body, "grant", "person", "server")
        lease = self.grants.get(body["grant"], "")
        held = self.leases.get(lease)
        if held is None or held.person != body["person"] or held.server != body["server"]:
            raise Problem(404, "grant", "This GPU grant is not for this server", "Ask for a new one in the panel.")
        if body["grant"] in self.used:
            raise Problem(409, "grant", "This GPU grant has been used already", "Ask for a new one in the panel.")
        self.used.add(body["grant"])
        held.token += 1
        held.state = "starting"
        if self.answer is not None:
            return self.answer
        return {"lease": lease, "token": held.token, "environment": held.environment, "text": held.text}

    def confirm(self, lease: str, body: dict[str, Any]) -> Any:
        keys(body, "token")
        self.confirming.set()
        assert self.may_confirm.wait(60)
        held = self.fenced(lease, body["token"])
        held.state = "active"
        return {"id": lease}

    def release(self, lease: str, query: dict[str, list[str]]) -> Any:
        keys(query, "token")
        self.fenced(lease, int(query["token"][0])).state = "ended"
        return {"id": lease}

    def fenced(self, lease: str, token: int) -> Held:
        held = self.leases.get(lease)
        if held is None:
            raise Problem(404, "not_found", "There is no such lease")
        if held.token != token or held.state == "ended":
            raise Problem(409, "fenced", "The lease is not yours any more", "It has ended.")
        return held


def keys(given: dict[str, Any], *expected: str) -> None:
    if set(given) != set(expected):
        raise Problem(400, "bad_input", "The body is not understood")


def handler(gpus: Gpus) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            address = urlsplit(self.path)
            gpus.calls.append(f"{self.command} {address.path.removeprefix(BASE)}")
            try:
                gpus.admit(self.headers.get("Authorization"))
                self.say(200, self.routed(address.path.removeprefix(BASE), body, parse_qs(address.query)))
            except Problem as problem:
                self.say(problem.status, problem.document)

        def routed(self, path: str, body: dict[str, Any], query: dict[str, list[str]]) -> Any:
            match self.command, path.split("/"):
                case "POST", ["grants", "redeem"]:
                    with gpus.lock:
                        return gpus.redeem(body)
                case "POST", ["leases", lease, "confirm"]:
                    return gpus.confirm(lease, body)
                case "DELETE", ["leases", lease]:
                    with gpus.lock:
                        return gpus.release(lease, query)
            raise Problem(404, "not_found", "No such address")

        def say(self, status: int, document: Any) -> None:
            text = json.dumps(document).encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text)

    return Handler


@contextmanager
def gpu_service() -> Iterator[Gpus]:
    """The service on a port of the OS's choice."""
    gpus = Gpus()
    gpus.may_confirm.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(gpus))
    gpus.url = f"http://127.0.0.1:{server.server_port}/services/specola/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield gpus
    finally:
        gpus.may_confirm.set()
        server.shutdown()
        server.server_close()
        thread.join()
