"""From the route table to a tornado application.

Checks come in a fixed order: path (404), method (405), caller (401), scope (403), size (413), body
(400). Every one of them answers with a problem document, never with a redirect or a page.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from jupyterhub.services.auth import HubOAuthenticated
from pydantic import BaseModel, ValidationError
from tornado.iostream import StreamClosedError
from tornado.routing import URLSpec
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from specola.core import log
from specola.core.errors import BadInput, NotFound, PublicError, Unavailable
from specola.core.events import Event
from specola.http import problems, sse
from specola.http.auth import Doorkeeper
from specola.http.idempotency import Idempotency, Key, key_of
from specola.http.metrics import UNKNOWN, Metrics
from specola.http.route import PUBLIC, Answer, Request, Route, Text

MAX_BODY = 1024 * 1024
RECHECK = 3.0
logger = logging.getLogger("specola.http")


@dataclass(frozen=True)
class Surroundings:
    """What every handler needs."""

    doorkeeper: Doorkeeper
    metrics: Metrics
    idempotency: Idempotency


class ProblemHandler(HubOAuthenticated, RequestHandler):
    """Request id, security headers and problem documents for whatever goes wrong.

    JupyterHub's mixin gives the XSRF rules; without it, HubOAuth patches tornado itself.
    """

    route_name = UNKNOWN
    problem_reason = ""

    def initialize(self, surroundings: Surroundings, **_rest: object) -> None:
        """Called by tornado for each request."""
        self.surroundings = surroundings
        self.hub_auth = surroundings.doorkeeper.session
        self.begun = time.monotonic()

    def get_current_user(self) -> Any:
        """Whoever the doorkeeper found; JupyterHub's own version would block the loop."""
        return getattr(self, "_cached_hub_user", None)

    def set_default_headers(self) -> None:
        """Called by tornado before anything else, and again before an error."""
        request_id = getattr(self, "request_id", "")
        if not request_id:
            request_id = self.request_id = log.new_request_id(self.request.headers.get(log.REQUEST_ID_HEADER))
        log.request_id.set(request_id)
        self.clear_header("Server")
        self.set_header(log.REQUEST_ID_HEADER, request_id)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Nobody lives here unless a subclass says so."""
        raise NotFound("There is nothing here", "docs/api.md lists what there is.")

    def write_error(self, status_code: int, **options: Any) -> None:  # noqa: ARG002 - tornado's signature
        """Called by tornado with whatever was raised."""
        error = public_error(options.get("exc_info", (None, None, None))[1])
        document = problems.problem(error, self.request_id)
        self.problem_reason = error.reason
        self.surroundings.metrics.refused(error.reason)
        self.set_status(error.status)
        if isinstance(error, problems.MethodNotAllowed):
            self.set_header("Allow", error.allowed)
        if isinstance(error, Unavailable):
            self.set_header("Retry-After", "2")
        self.set_header("Content-Type", problems.CONTENT_TYPE)
        self.finish(document.model_dump_json())

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Called by tornado: only what is our own fault deserves a traceback."""
        if not isinstance(value, PublicError | HTTPError | StreamClosedError):
            logger.error("%s failed", self.route_name, exc_info=(typ, value, tb))

    def on_finish(self) -> None:
        """Called by tornado when the answer is on its way."""
        seconds = time.monotonic() - self.begun
        status = self.get_status()
        streamed = bool(getattr(self, "streaming", False))
        self.surroundings.metrics.answered(self.route_name, status, None if streamed else seconds)
        level = logging.INFO if status < HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING
        if self.route_name.endswith(("/healthz", "/metrics", "static")) and status < HTTPStatus.BAD_REQUEST:
            level = logging.DEBUG
        who = getattr(getattr(self, "caller", None), "name", "") or "-"
        logger.log(
            level, "%d %s %s %s %.0f ms", status, self.route_name, who, self.problem_reason or "-", seconds * 1000
        )


def public_error(error: BaseException | None) -> PublicError:
    """What may be said about an exception."""
    if isinstance(error, PublicError):
        return error
    if isinstance(error, HTTPError) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadInput("The request cannot be understood")
    if isinstance(error, HTTPError):
        return Unavailable("The hub does not answer", "Try again in a moment.", reason="hub")
    return problems.broken()


@stream_request_body
class ApiHandler(ProblemHandler):
    """One path of the API with all its methods."""

    SUPPORTED_METHODS = (
        "GET",
        "HEAD",
        "POST",
        "DELETE",
        "PATCH",
        "PUT",
        "OPTIONS",
        "TRACE",
        "CONNECT",
    )  # fmt: skip - all of them: what a route lacks is answered with a problem, not with a page

    def initialize(self, surroundings: Surroundings, routes: Mapping[str, Route], base: str) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize(surroundings)
        self.routes = routes
        self.base = base
        self.chunks: list[bytes] = []
        self.size = 0
        self.streaming = False
        self._gone = asyncio.Event()

    async def prepare(self) -> None:
        """Everything that can be refused before the body is read."""
        route = self.routes.get(self.request.method or "")
        if route is None:
            raise problems.MethodNotAllowed(", ".join(sorted(self.routes)))
        self.route = route
        self.route_name = route.name
        self.caller = await self.surroundings.doorkeeper.admit(self, route)
        length = self.request.headers.get("Content-Length", "0")
        if length.isdigit() and int(length) > MAX_BODY:
            raise _too_large()

    def data_received(self, chunk: bytes) -> None:
        """Called by tornado with each part of the body; what is too much is not kept."""
        self.size += len(chunk)
        if self.size <= MAX_BODY:
            self.chunks.append(chunk)

    async def _serve(self, **path_args: str) -> None:
        if self.size > MAX_BODY:
            raise _too_large()
        raw = b"".join(self.chunks)
        request = Request(
            path_args=path_args,
            query={
                name: values[-1].decode("utf-8", "replace") for name, values in self.request.query_arguments.items()
            },
            body=_parse(self.route, raw),
            request_id=self.request_id,
            idempotency_key=self.request.headers.get("Idempotency-Key"),
            last_event_id=self.request.headers.get("Last-Event-ID"),
        )
        if request.idempotency_key is not None and self.route.method == "POST":
            target = f"{self.request.method} {self.request.path}"
            await self._once(request, key_of(request.idempotency_key, self.caller.name, target, raw))
            return
        answer = await self.route.handler(self.caller, request)
        if isinstance(answer, sse.Stream):
            await self._stream(answer)
        else:
            self._finish(self.route.status, *_body(answer))

    get = post = put = patch = delete = head = options = trace = connect = _serve

    async def _once(self, request: Request, key: Key) -> None:
        store = self.surroundings.idempotency
        kept = store.begin(key)
        if kept is not None:
            self.set_header("Idempotency-Replayed", "true")
            self._finish(kept.status, kept.body, "application/json")
            return
        try:
            body, kind = _body(await self.route.handler(self.caller, request))
        except BaseException:
            store.undone(key)
            raise
        store.done(key, self.route.status, body)
        self._finish(self.route.status, body, kind)

    def _finish(self, status: int, body: str, kind: str) -> None:
        if status == HTTPStatus.OK and not body:
            status = HTTPStatus.NO_CONTENT
        self.set_status(status)
        if body:
            self.set_header("Content-Type", kind)
        elif status == HTTPStatus.NO_CONTENT:
            self.clear_header("Content-Type")
        self.finish(body or None)

    async def _stream(self, stream: sse.Stream) -> None:
        """Write events until either side ends; a caller whose right is gone is cut off within seconds."""
        self.streaming = True
        for name, value in sse.HEADERS.items():
            self.set_header(name, value)
        metrics = self.surroundings.metrics
        metrics.streams.inc()
        pending: asyncio.Task[Event] | None = None
        try:
            await self._put(sse.opening())
            last = checked = time.monotonic()
            while not self._gone.is_set():
                pending = pending or asyncio.ensure_future(_next(stream))
                # events must not put the next look off
                until = min(checked + RECHECK, last + sse.HEARTBEAT) - time.monotonic()
                await asyncio.wait((pending,), timeout=max(until, 0))
                now = time.monotonic()
                if now - checked >= RECHECK:
                    await self._still_allowed()
                    checked = now
                if pending.done():
                    finished, pending = pending, None
                    await self._put(sse.encode(finished.result()))
                    last = now
                elif now - last >= sse.HEARTBEAT:
                    await self._put(sse.BEAT)
                    last = now
        except (StopAsyncIteration, StreamClosedError, PublicError):
            # the headers are long gone: all that can be said is that the stream has ended
            pass
        finally:
            metrics.streams.dec()
            if pending is not None:
                pending.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await pending
            await stream.end()
        if not self._finished:
            with suppress(StreamClosedError):
                await self.finish()

    async def _still_allowed(self) -> None:
        if self.route.scope != PUBLIC:
            with suppress(Unavailable):
                # a hub that does not answer cannot have revoked anything either
                await self.surroundings.doorkeeper.admit(self, self.route)

    async def _put(self, text: str) -> None:
        self.write(text)
        await self.flush()

    def on_connection_close(self) -> None:
        """Called by tornado when the reader went away."""
        self._gone.set()


async def _next(stream: sse.Stream) -> Event:
    return await anext(stream.events)


def _too_large() -> PublicError:
    return problems.TooLarge("The request is too large", f"A body has at most {MAX_BODY // 1024} KiB.")


def _parse(route: Route, raw: bytes) -> BaseModel | None:
    if route.request is None:
        return None
    try:
        return route.request.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise problems.bad_body(error) from None


def _body(answer: Answer | sse.Stream) -> tuple[str, str]:
    if isinstance(answer, sse.Stream):
        raise TypeError("a stream is no answer to a POST")
    if answer is None:
        return "", ""
    if isinstance(answer, Text):
        return answer.content, answer.content_type
    return answer.model_dump_json(), "application/json"


def api_handlers(base: str, routes: Sequence[Route], surroundings: Surroundings) -> list[URLSpec]:
    """The handlers of all routes below `base`; two routes of the same name are a programming error."""
    paths: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = paths.setdefault(route.path, {})
        if route.method in methods:
            raise ValueError(f"{route.name} is declared twice")
        methods[route.method] = route
    # a fixed path wins over one with a parameter
    ordered = sorted(paths.items(), key=lambda item: item[0].count("{"))
    return [
        URLSpec(
            next(iter(methods.values())).pattern(base),
            ApiHandler,
            {"surroundings": surroundings, "routes": methods, "base": base},
        )
        for _, methods in ordered
    ]


def application(handlers: Sequence[URLSpec], surroundings: Surroundings, cookie_secret: str) -> Application:
    """The tornado application; every path without a handler answers 404 as a problem."""
    return Application(
        list(handlers),
        default_handler_class=ProblemHandler,
        default_handler_args={"surroundings": surroundings},
        cookie_secret=cookie_secret,
        log_function=lambda _handler: None,
        compress_response=False,
    )
