"""The OpenAPI 3.1 document, made from the route table and the pydantic models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from specola import __version__
from specola.core.scopes import METRICS, SCOPES
from specola.http.problems import CONTENT_TYPE, Problem
from specola.http.route import PUBLIC, Route

BASE = "/services/specola/api/v1"
_REF = "#/components/schemas/{model}"


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document; the same routes give the same bytes."""
    asked: dict[type[BaseModel], JsonSchemaMode] = {r.request: "validation" for r in routes if r.request}
    answered: dict[type[BaseModel], JsonSchemaMode] = {r.response: "serialization" for r in routes if r.response}
    answered[Problem] = "serialization"
    schemas = _schemas(asked | answered)
    paths: dict[str, Any] = {}
    for route in sorted(routes, key=lambda r: (r.path, r.method)):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Specola",
            "version": __version__,
            "description": "The API of a Specola facility. Errors are RFC 9457 problem documents.",
        },
        "servers": [{"url": BASE}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "what is wrong, and what to do",
                    "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
                }
            },
            "securitySchemes": {
                "hub": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token <JupyterHub API token>` or `Bearer <…>`. " + _scope_table(),
                }
            },
        },
    }


def _schemas(models: dict[type[BaseModel], JsonSchemaMode]) -> dict[str, Any]:
    """Answers hold every field, also those with a default; requests need not."""
    wanted = sorted(models.items(), key=lambda item: item[0].__name__)
    _, top = models_json_schema(wanted, ref_template=_REF)
    return dict(sorted(top["$defs"].items()))


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _id(route),
        "summary": route.summary,
        "tags": [route.path.split("/")[1]],
        "parameters": [*_parameters(route)],
        "responses": {str(route.status): _answer(route), "default": {"$ref": "#/components/responses/Problem"}},
    }
    if route.scope != PUBLIC:
        operation["security"] = [{"hub": []}]
        operation["x-scope"] = route.scope
    if route.request is not None:
        schema = {"$ref": _REF.format(model=route.request.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{([a-z_]+)\}", route.path)
    ]
    found += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in route.query.items()
    ]
    if route.method == "POST":
        found.append({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "the same key is done once and answered alike for a day",
            "schema": {"type": "string", "maxLength": 128},
        })  # fmt: skip
    if route.stream:
        found.append({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "go on after this event",
            "schema": {"type": "string"},
        })  # fmt: skip
    return found


def _answer(route: Route) -> dict[str, Any]:
    if route.stream:
        return {"description": "events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    if route.response is None:
        return {"description": "done"}
    schema = {"$ref": _REF.format(model=route.response.__name__)}
    return {"description": route.summary, "content": {"application/json": {"schema": schema}}}


def _id(route: Route) -> str:
    words = [w for w in re.split(r"[^a-z]+", route.path) if w]
    return "".join([route.method.lower(), *(w.capitalize() for w in words)])


def _scope_table() -> str:
    return "Scopes: " + "; ".join(f"`{name}`: {text}" for name, text in SCOPES.items()) + f"; `{METRICS}`: metrics."


def scopes_in_markdown() -> str:
    """The table of scopes for docs/api.md."""
    rows = [f"| `{name}` | {text} |" for name, text in SCOPES.items()]
    return "\n".join(["| scope | allows to |", "|---|---|", *rows])


def routes_in_markdown(routes: Sequence[Route]) -> str:
    """The table of routes for docs/api.md."""
    rows = [
        f"| `{r.method} {r.path}` | `{r.scope}` | {r.summary} |"
        for r in sorted(routes, key=lambda r: (r.path, r.method))
    ]
    return "\n".join(["| route | scope | what |", "|---|---|---|", *rows])
