"""A route that nobody guards cannot be written."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from specola.core.scopes import IDENTITY, SCOPES, allows
from specola.http.route import PUBLIC, Caller, Request, Route


async def nothing(_caller: Caller, _request: Request) -> None:
    return None


class Body(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("method", "path", "scope", "summary"),
    [
        ("GET", "/x", "", "s"),
        ("GET", "/x", "custom:specola:typo", "s"),
        ("GET", "/x", "read:users", "s"),
        ("POST", "/x", PUBLIC, "s"),
        ("BREW", "/x", IDENTITY, "s"),
        ("GET", "x", IDENTITY, "s"),
        ("GET", "/x/", IDENTITY, "s"),
        ("GET", "/x", IDENTITY, ""),
    ],
)
def test_an_unguarded_or_crooked_route_cannot_be_made(method: str, path: str, scope: str, summary: str) -> None:
    with pytest.raises(ValueError, match=method):
        Route(method, path, scope, nothing, summary=summary)


def test_a_route_without_a_scope_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Route("GET", "/x", handler=nothing, summary="s")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        (set(), False),
        ({IDENTITY}, True),
        ({f"{IDENTITY}!user=anna"}, True),
        ({f"{IDENTITY}!user"}, True),
        ({f"{IDENTITY}!user=bob"}, False),
        ({f"{IDENTITY}:write"}, False),
        ({"custom:specola"}, False),
    ],
)
def test_a_scope_counts_in_full_or_for_oneself(held: set[str], allowed: bool) -> None:
    assert allows(frozenset(held), IDENTITY, "anna") is allowed
    assert Caller("anna", scopes=frozenset(held)).may(IDENTITY) is allowed


def test_a_handler_reads_only_the_body_that_its_route_declares() -> None:
    assert Request(body=Body(x=1)).read(Body).x == 1
    with pytest.raises(TypeError):
        Request().read(Body)


def test_the_path_is_a_pattern_with_names_and_nothing_more() -> None:
    import re

    pattern = Route("GET", "/a.b/{name}", IDENTITY, nothing, summary="s").pattern("/base/")
    assert re.fullmatch(pattern, "/base/a.b/x-1").groupdict() == {"name": "x-1"}  # type: ignore[union-attr]
    for other in ("/base/aXb/x", "/base/a.b/x/y", "/base/a.b/"):
        assert not re.fullmatch(pattern, other)


def test_scopes_have_descriptions() -> None:
    assert all(name.startswith("custom:specola:") and text for name, text in SCOPES.items())
