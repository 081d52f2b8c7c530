"""A facility in one process: its API, and the schedulers of its clusters on unix sockets.

`PYTHONPATH=tests python -m lab.fakeapi --home DIR` serves until it is ended and prints the two variables that a Jupyter
server needs to believe in it. What it answers has the shapes of extension/openapi.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.fakegpu import FakeGpus
from tornado import web, websocket
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

GIB = 1024**3
MAX_WORKERS = 8
TOKEN = "token-of-the-fake-facility"


def bind_deep(path: Path) -> socket.socket:
    """A listening socket at a path of any length, as worker/specola_worker/preload.py makes it."""
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(path.parent, os.O_PATH)
    listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)
    listener.setblocking(False)
    listener.listen()
    return listener


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeFacility:
    """Holds the state; `seconds_to_grow` is what one worker takes to start."""

    home: Path
    seconds_to_grow: float = 0.0
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """while it is not set, nobody gets an answer"""
    token: str = TOKEN
    person: str = "anna"
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    listeners: set[asyncio.Queue[tuple[int, dict[str, Any]]]] = field(default_factory=set)
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """method and path → status, title, detail"""
    report: dict[str, Any] = field(default_factory=dict)
    """what the gateway adds to its report on a cluster: its TLS pair, its options"""
    gpus: FakeGpus = field(default_factory=FakeGpus)

    def __post_init__(self) -> None:
        self.answers.set()
        self._servers: dict[str, HTTPServer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen; the address of the API."""
        sockets = bind_sockets(0, "127.0.0.1")
        rules = [
            (r"/services/specola/api/v1/events", Events, {"facility": self}),
            (r"/services/specola/api/v1/(.*)", Api, {"facility": self}),
            (r"/gateway/api/v1/clusters/(.*)", Gateway, {"facility": self}),
        ]
        self._servers["api"] = HTTPServer(web.Application(rules))
        self._servers["api"].add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/services/specola/api/v1/"
        return self.url

    async def stop(self) -> None:
        """Stop listening and hang up."""
        for task in list(self._tasks):
            task.cancel()
        self.hang_up()
        self.answers.set()
        for server in self._servers.values():
            server.stop()
            await server.close_all_connections()

    def hang_up(self) -> None:
        """Cut every stream."""
        for queue in self.listeners:
            queue.put_nowait((0, {}))

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell every listener."""
        event = (len(self.events) + 1, {"type": kind, "data": data})
        self.events.append(event)
        for queue in self.listeners:
            queue.put_nowait(event)

    def used(self) -> int:
        """Workers asked for, over all clusters."""
        return sum(c["workers"]["wanted"] for c in self.clusters.values() if c["status"] not in {"stopped", "failed"})

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A cluster that starts."""
        name = uuid.uuid4().hex
        self.clusters[name] = {
            "name": name,
            "site": wanted.get("site") or "here",
            "environment": wanted.get("environment") or "default",
            "status": "starting",
            "reason": "",
            "workers": {"wanted": wanted.get("workers", 0), "running": 0, "starting": 0},
            "adaptive": None,
            "started": time.time(),
            "idle_since": None,
            "stops_at": None,
            "dashboard": f"specola/clusters/{name}/dashboard/status",
        }
        self._spawn(self._live(name))
        return self.clusters[name]

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, name: str) -> None:
        await asyncio.sleep(self.seconds_to_grow)
        self.serve_scheduler(name)
        cluster = self.clusters[name]
        cluster["status"] = "running"
        while cluster["status"] == "running":
            workers = cluster["workers"]
            step = (workers["wanted"] > workers["running"]) - (workers["wanted"] < workers["running"])
            workers["running"] += step
            workers["starting"] = max(0, workers["wanted"] - workers["running"])
            if step:
                self.publish("scaleout.cluster", cluster)
            await asyncio.sleep(self.seconds_to_grow or 0.01)

    def end(self, name: str) -> None:
        """Stop a cluster."""
        self.clusters[name]["status"] = "stopped"
        self._servers.pop(name).stop()
        (self.home / ".specola" / f"cluster.{name}.scheduler" / "http.sock").unlink(missing_ok=True)
        self.publish("scaleout.cluster", self.clusters[name])

    def serve_scheduler(self, name: str) -> Path:
        """The HTTP side of a scheduler, on its socket."""
        folder = self.home / ".specola" / f"cluster.{name}.scheduler"
        folder.mkdir(parents=True, exist_ok=True)
        rules = [
            (r"/specola/workers", Workers, {"facility": self, "name": name}),
            (r"/status/ws", Echo),
            (r"/(.*)", Page),
        ]
        self._servers[name] = HTTPServer(web.Application(rules))
        self._servers[name].add_socket(bind_deep(folder / "http.sock"))
        return folder / "http.sock"


class Answer(web.RequestHandler):
    """Checks the token, and answers problems."""

    def initialize(self, facility: FakeFacility) -> None:
        self.facility = facility

    async def prepare(self) -> None:
        await self.facility.answers.wait()
        request = self.request
        kept = Request(str(request.method), request.path, dict(request.headers), request.body)
        self.facility.requests.append(kept)
        self.set_header("X-Request-ID", request.headers.get("X-Request-ID", "none"))
        if request.headers.get("Authorization") != f"token {self.facility.token}":
            self.problem(401, "Log in first", "")
            return
        refused = self.facility.refuse.get(f"{request.method} {request.path.split('/api/v1/')[1]}")
        if refused:
            self.problem(*refused)

    def problem(self, status: int, title: str, detail: str) -> None:
        self.set_status(status)
        document = {"type": "about:blank", "title": title, "status": status, "detail": detail, "reason": "refused"}
        document["request_id"] = self.request.headers.get("X-Request-ID", "none")
        self.finish(json.dumps(document))
        self.set_header("Content-Type", "application/problem+json")


class Api(Answer):
    """Every route but the stream."""

    def problem(self, status: int, title: str, detail: str) -> None:
        self.set_header("Content-Type", "application/problem+json")
        super().problem(status, title, detail)

    def get(self, path: str) -> None:
        if path == "me":
            self.finish(me(self.facility.person))
        elif path == "scaleout/sites":
            free = MAX_WORKERS - self.facility.used()
            site = {"name": "here", "kind": "local", "available": True, "reason": "", "free": free}
            self.finish({"items": [site | {"max_workers": MAX_WORKERS, "environments": ["default"]}]})
        elif path == "scaleout/clusters":
            self.finish({"items": list(self.facility.clusters.values())})
        elif (name := path.removeprefix("scaleout/clusters/")) in self.facility.clusters:
            self.finish(self.facility.clusters[name])
        elif (found := self.facility.gpus.get(path, self._query())) is not None:
            self.finish(found)
        elif path == "moved":
            self.redirect("http://127.0.0.1:1/elsewhere")
        else:
            self.problem(404, "There is no such address", "")

    def post(self, path: str) -> None:
        body = json.loads(self.request.body or b"{}")
        if path == "servers/activity":
            self.facility.reports.append(body)
            self.set_status(204)
        elif path == "scaleout/clusters" or path.endswith("/scale"):
            self._change(path, body)
        elif (found := self._gpu(path, body)) is not None:
            self.finish(found)
        else:
            self.problem(404, "There is no such address", "")

    def _query(self) -> dict[str, str]:
        return {name: self.get_query_argument(name) for name in self.request.query_arguments}

    def _gpu(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if not path.startswith("gpu/"):
            return None
        return self.facility.gpus.change(str(self.request.method), path, body)

    def _change(self, path: str, body: dict[str, Any]) -> None:
        cluster = self.facility.clusters.get(path.split("/")[2]) if path.endswith("/scale") else None
        asked = body.get("workers", body.get("maximum", 0))
        held = self.facility.used() - (cluster["workers"]["wanted"] if cluster else 0)
        if held + asked > MAX_WORKERS:
            left = MAX_WORKERS - held
            allowed = f"Your groups allow {MAX_WORKERS} workers; {held} are in use. Ask for at most {left}."
            self.problem(422, "More workers than your groups allow", allowed)
            return
        self.set_status(202)
        if cluster is None:
            self.finish(self.facility.create(body))
            return
        if "workers" in body:
            cluster["workers"]["wanted"], cluster["adaptive"] = body["workers"], None
        else:
            cluster["adaptive"] = {"minimum": body.get("minimum", 0), "maximum": body["maximum"]}
        self.finish(cluster)

    def delete(self, path: str) -> None:
        if (found := self._gpu(path, {})) is not None:
            self.finish(found)
            return
        name = path.split("/")[2]
        if self.facility.clusters.get(name, {"status": "stopped"})["status"] == "stopped":
            self.problem(404, "There is no such cluster of yours", "")
            return
        self.facility.end(name)
        self.set_status(204)


class Events(Answer):
    """The stream, resumable."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write("retry: 2000\n\n")
        last = int(self.request.headers.get("Last-Event-ID") or len(self.facility.events))
        queue: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
        for event in self.facility.events[last:]:
            queue.put_nowait(event)
        self.facility.listeners.add(queue)
        self.queue = queue
        await self.flush()
        while (event := await queue.get())[0]:
            self.write(f"id: {event[0]}\ndata: {json.dumps(event[1])}\n\n")
            await self.flush()

    def on_connection_close(self) -> None:
        self.queue.put_nowait((0, {}))
        self.facility.listeners.discard(self.queue)


class Gateway(web.RequestHandler):
    """The one address of dask-gateway that a client needs to connect."""

    def initialize(self, facility: FakeFacility) -> None:
        self.facility = facility

    def get(self, name: str) -> None:
        cluster = self.facility.clusters.get(name)
        if cluster is None:
            self.set_status(404)
            self.finish({"error": "no such cluster"})
            return
        times = {"start_time": int(1000 * cluster["started"]), "stop_time": None, "dashboard_route": None}
        self.finish({"name": name, "status": "RUNNING", "options": {}} | times | self.facility.report)


class Workers(web.RequestHandler):
    """The live numbers of a scheduler, as worker/specola_worker/routes.py gives them."""

    def initialize(self, facility: FakeFacility, name: str) -> None:
        self.facility, self.name = facility, name

    def get(self) -> None:
        running = self.facility.clusters.get(self.name, {"workers": {"running": 2}})["workers"]["running"]
        workers = [worker(index, time.time()) for index in range(running)]
        summed = ("nthreads", "memory", "memory_limit", "cpu", "executing", "ready", "spilled")
        totals = {key: sum(w[key] for w in workers) for key in summed}
        tasks = {"processed": 1204, "erred": 0, "in_memory": 12, "processing": 9, "waiting": 310, "bytes": 10**8}
        self.finish({"workers": workers, "totals": {"workers": running, **totals}, "tasks": tasks, "idle_since": None})


class Page(web.RequestHandler):
    """A page of a dashboard."""

    def get(self, path: str) -> None:
        if not path:
            self.redirect("/status")
            return
        self.set_header("Set-Cookie", "evil=1")
        self.finish({"path": path, "query": self.request.query, "headers": dict(self.request.headers)})

    head = get


class Echo(websocket.WebSocketHandler):
    """As bokeh: takes the first of two subprotocols."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0] if subprotocols else None

    async def on_message(self, message: str | bytes) -> None:
        if message == "bye":
            self.close()
        else:
            await self.write_message(message, binary=isinstance(message, bytes))


def worker(index: int, now: float) -> dict[str, Any]:
    """One worker whose numbers move."""
    wave = math.sin(now / 7 + index)
    return {
        "name": f"w{index:02d}",
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory": int((0.9 + 0.5 * wave) * GIB),
        "memory_limit": 2 * GIB,
        "cpu": round(70 + 28 * math.sin(now / 3 + 2 * index), 1),
        "executing": 1,
        "ready": 3,
        "spilled": 0,
    }


def me(name: str) -> dict[str, Any]:
    """Anna, a user of one group."""
    return {
        "name": name,
        "full_name": "Anna Rossi",
        "groups": [
            {"name": "cms", "roles": ["user"], "why": "token"},
            {"name": "summer-school", "roles": ["user", "instructor"], "why": "roster"},
        ],
        "roles": ["user", "instructor"],
        "rights": [
            {"what": "servers", "allowed": True, "why": "through the groups cms, summer-school"},
            {"what": "scaleout", "allowed": True, "why": "through the groups cms, summer-school"},
        ],
        "limits": {"memory_gib": 4.0, "cores": 2.0, "workers": MAX_WORKERS},
    }


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition, never for a time."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for knows nothing of us
            await asyncio.sleep(0.01)


async def _serve(home: Path) -> None:
    facility = FakeFacility(home, seconds_to_grow=1.0)
    print(f"SPECOLA_API_URL={await facility.start()}")
    print(f"JUPYTERHUB_API_TOKEN={facility.token}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    asyncio.run(_serve(parser.parse_args().home))
