"""The GPU half of the facility's service in one process, strict about the wire; it starts real kernel workers.

The shapes are those of extension/openapi.json: a body with another key, or a stale token, is refused.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

TOKEN = "token-of-the-fake-service"
BODIES = {
    "kernel": {"token", "kernel_id", "relay_url", "secret", "kernel_name"},
    "confirm": {"token"},
    "activity": {"token", "kernel", "since", "checkpoint"},
    "saved": {"token", "names", "failed", "hooks", "size"},
}
GPU = {"model": "A100-40GB", "shape": "3g", "gib": 19.5}


def now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class FakeGpu:
    """Leases, events, and the workers of kernels."""

    place: Path
    home: str = "shared"
    """of the site: shared, sync or none"""
    says: str | None = None
    """what the facility says of it, where that differs"""
    worker_home: Path | None = None
    grace: float = 60.0
    through: Callable[[str], str] = field(default=lambda url: url)
    """the address that a worker is told, for that of the server"""
    prefix: list[str] = field(default_factory=list)
    """words before the worker's command, as `ip netns exec …`"""
    starts: bool = True
    """whether the site starts workers by itself"""
    leases: dict[str, dict[str, Any]] = field(default_factory=dict)
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """action → status, title, detail"""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    wire: Any = None
    """what lies between the workers and the server"""

    def __post_init__(self) -> None:
        self.answers.set()
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []
        self._listeners: set[asyncio.Queue[tuple[int, dict[str, Any]]]] = set()

    async def start(self, port: int = 0) -> str:
        sockets = bind_sockets(port, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        mine = {"fake": self}
        base = "/services/specola/api/v1/"
        self._server = HTTPServer(
            web.Application(
                [
                    (f"{base}events", Events, mine),
                    (f"{base}servers/activity", Ignored),
                    (f"{base}gpu/offers", OffersHandler, mine),
                    (f"{base}gpu/leases", LeasesHandler, mine),
                    (f"{base}gpu/leases/([^/]+)", LeaseHandler, mine),
                    (f"{base}gpu/leases/([^/]+)/([a-z]+)", ActionHandler, mine),
                ]
            )
        )
        self._server.add_sockets(sockets)
        return f"http://127.0.0.1:{self.port}{base}"

    async def stop(self) -> None:
        self.hang_up()
        self._server.stop()
        await self._server.close_all_connections()

    @property
    def declared(self) -> str:
        return self.says or self.home

    def end_workers(self) -> None:
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
            worker.wait()

    # leases

    def grant(self, *, on_grant: str = "hold", notebook: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        lease = {
            "id": f"lease-{number}",
            "request": f"request-{number}",
            "state": "offered",
            "pool": "a100",
            "model": "A100-40GB",
            "simulated": True,
            "shape": "3g",
            "token": 100 + number,
            "on_grant": on_grant,
            "notebook": notebook,
            "server": None,
            "kernel": None,
            "reason": "",
            "cause": None,
            "granted": now(),
            "checkpoint": False,
        }
        self.leases[str(lease["id"])] = lease
        self.tell(lease)
        return lease

    def become(self, lease: dict[str, Any], state: str, **more: Any) -> None:
        lease.update(state=state, **more)
        self.tell(lease)

    def tell(self, lease: dict[str, Any], kind: str = "gpu.lease") -> None:
        self._events.append({"type": kind, "data": dict(lease)})
        for queue in self._listeners:
            queue.put_nowait((len(self._events), self._events[-1]))

    def hang_up(self) -> None:
        for queue in self._listeners:
            queue.put_nowait((0, {}))

    def order(self, lease: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return {
            "relay_url": self.through(body["relay_url"]),
            "secret": body["secret"],
            "lease": lease["id"],
            "kernel_id": body["kernel_id"],
            "kernel_name": body["kernel_name"],
            "grace": self.grace,
            "directory": "",
            "home": self.home,
            "simulated": True,
            "gpu": GPU,
        }

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        """As the Runner does: the order is a file that only its owner can read."""
        file = self.place / f"{name}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(self.orders[name]))
        home = self.worker_home or Path(os.environ["HOME"])
        environment = os.environ | {
            "HOME": str(home),
            "CUDA_VISIBLE_DEVICES": "MIG-simulated",
            "NVIDIA_VISIBLE_DEVICES": "MIG-simulated",
            "SPECOLA_GPU_LEASE": name,
        }
        environment.pop("JUPYTERHUB_API_TOKEN", None)
        command = [*self.prefix, sys.executable, "-m", "specola_worker.kernel", str(file)]
        with (self.place / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
        return self.workers[name]

    def log(self, name: str) -> str:
        return (self.place / f"{name}.log").read_text()

    # events

    async def events(self, last: int) -> asyncio.Queue[tuple[int, dict[str, Any]]]:
        queue: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
        for number, event in enumerate(self._events[last:], last + 1):
            queue.put_nowait((number, event))
        self._listeners.add(queue)
        return queue

    @property
    def event_count(self) -> int:
        return len(self._events)


class Answer(web.RequestHandler):
    def initialize(self, fake: FakeGpu) -> None:
        self.fake = fake

    async def prepare(self) -> None:
        await self.fake.answers.wait()
        if self.request.headers.get("Authorization") != f"token {TOKEN}":
            self.problem(403, "You may not")

    def problem(self, status: int, title: str, detail: str = "") -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps({"title": title, "detail": detail, "status": status}))

    def known(self, name: str) -> dict[str, Any] | None:
        lease = self.fake.leases.get(name)
        if lease is None:
            self.problem(404, "No such lease")
        return lease


class Ignored(web.RequestHandler):
    def post(self) -> None:
        self.set_status(204)


class OffersHandler(Answer):
    def get(self) -> None:
        self.finish({"pools": [{"name": "other", "home": "shared"}, {"name": "a100", "home": self.fake.declared}]})


class LeasesHandler(Answer):
    def get(self) -> None:
        self.finish({"items": list(self.fake.leases.values())})


class LeaseHandler(Answer):
    def get(self, name: str) -> None:
        lease = self.known(name)
        if lease is not None:
            self.finish(lease)

    def delete(self, name: str) -> None:
        lease = self.known(name)
        if lease is None:
            return
        if int(self.get_query_argument("token")) != lease["token"]:
            self.problem(409, "This lease has changed hands")
            return
        self.fake.asked.append((name, "release", {}))
        self.fake.become(lease, "saving" if lease["kernel"] else "ended", cause="released")
        self.set_status(202)
        self.finish(lease)


class ActionHandler(Answer):
    def post(self, name: str, action: str) -> None:
        lease = self.known(name)
        if lease is None:
            return
        body = json.loads(self.request.body)
        if action not in BODIES or set(body) != BODIES[action]:
            self.problem(422, "The body is not as it must be", f"{action}: {sorted(body)}")
            return
        if action in self.fake.refuse:
            self.problem(*self.fake.refuse[action])
            return
        if body["token"] != lease["token"]:
            self.problem(409, "This lease has changed hands")
            return
        self.fake.asked.append((name, action, body))
        getattr(self, action)(lease, body)
        self.set_status(202 if action == "kernel" else 200)
        self.finish(lease)

    def kernel(self, lease: dict[str, Any], body: dict[str, Any]) -> None:
        if lease["state"] == "offered":
            lease["kernel"] = body["kernel_id"]
            self.fake.orders[lease["id"]] = self.fake.order(lease, body)
            self.fake.become(lease, "starting", reason="" if self.fake.starts else "The site has no free slot yet.")
            if self.fake.starts:
                self.fake.start_worker(lease["id"])

    def confirm(self, lease: dict[str, Any], _body: dict[str, Any]) -> None:
        self.fake.become(lease, "active", active=now(), reason="")

    def activity(self, lease: dict[str, Any], body: dict[str, Any]) -> None:
        assert body["kernel"] in {"busy", "idle"}
        assert abs(body["since"] - time.time()) < 3600
        lease["checkpoint"] = body["checkpoint"]

    def saved(self, lease: dict[str, Any], body: dict[str, Any]) -> None:
        assert all(set(one) == {"name", "why"} for one in body["failed"])
        saved = {key: body[key] for key in ("names", "failed", "hooks", "size")}
        self.fake.become(lease, "ended", outcome=lease["cause"], saved=saved)
        worker = self.fake.workers.get(lease["id"])
        if worker is not None:
            worker.send_signal(signal.SIGTERM)


class Events(Answer):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write("retry: 2000\n\n")
        last = int(self.request.headers.get("Last-Event-ID") or self.fake.event_count)
        self.queue = await self.fake.events(last)
        await self.flush()
        while (event := await self.queue.get())[0]:
            self.write(f"id: {event[0]}\ndata: {json.dumps(event[1])}\n\n")
            await self.flush()

    def on_connection_close(self) -> None:
        if hasattr(self, "queue"):
            self.queue.put_nowait((0, {}))
