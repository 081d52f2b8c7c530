"""One row of the API's table, and what its handler gets.

A route cannot be made without a scope: the constructor refuses it, so there is no endpoint that
nobody guards. `PUBLIC` is for the health check alone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from specola.core.scopes import METRICS, SCOPES, allows

if TYPE_CHECKING:
    from specola.http.sse import Stream

PUBLIC = "public"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Caller:
    """Who asks, as the hub knows them, and what their token may do."""

    name: str
    groups: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    token_id: str | None = None
    server: str | None = None
    kind: str = "user"
    admin: bool = False

    def may(self, scope: str) -> bool:
        """Whether the token carries a scope."""
        return scope == PUBLIC or allows(self.scopes, scope, self.name)


ANYBODY = Caller(name="", kind="nobody")


@dataclass(frozen=True)
class Request:
    """One request after all checks."""

    path_args: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: BaseModel | None = None
    request_id: str = ""
    idempotency_key: str | None = None
    last_event_id: str | None = None

    def read(self, model: type[ModelT]) -> ModelT:
        """The body as the model that the route declares."""
        if not isinstance(self.body, model):
            raise TypeError(f"the route does not declare {model.__name__} as its request")
        return self.body


@dataclass(frozen=True)
class Text:
    """An answer that is not JSON."""

    content: str
    content_type: str


Answer = BaseModel | Text | None
Handler = Callable[[Caller, Request], Awaitable["Answer | Stream"]]


@dataclass(frozen=True)
class Route:
    """`method path`, the scope it needs, the function that answers, and the models of both bodies."""

    method: str
    path: str
    scope: str
    handler: Handler
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    status: int = 200
    summary: str = ""
    stream: bool = False
    query: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scope not in {*SCOPES, METRICS, PUBLIC}:
            raise ValueError(f"{self.method} {self.path}: a route needs one of the known scopes, not {self.scope!r}")
        if self.scope == PUBLIC and self.method != "GET":
            raise ValueError(f"{self.method} {self.path}: what changes something is never public")
        if self.method not in METHODS:
            raise ValueError(f"{self.method} {self.path}: no such method")
        if not self.path.startswith("/") or self.path.endswith("/"):
            raise ValueError(f"{self.method} {self.path}: a path starts with / and does not end with it")
        if not self.summary:
            raise ValueError(f"{self.method} {self.path}: a route has a summary")

    @property
    def name(self) -> str:
        """`GET /scaleout/clusters/{name}`: the label in metrics and logs."""
        return f"{self.method} {self.path}"

    def pattern(self, base: str) -> str:
        """The path below `base` as a regular expression with named groups."""
        parts = re.split(r"\{([a-z_]+)\}", self.path)
        body = "".join(f"(?P<{p}>[^/]+)" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        return re.escape(base.rstrip("/")) + body + "$"
