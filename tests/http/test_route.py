"""A route that nobody guards cannot be written."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, model_validator
from specola.core.scopes import IDENTITY, SCOPES, allows
from specola.http.app import api_handlers
from specola.http.problems import bad_body
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


def test_two_routes_of_one_name_are_refused() -> None:
    route = Route("GET", "/x", IDENTITY, nothing, summary="s")
    with pytest.raises(ValueError, match="declared twice"):
        api_handlers("/base", [route, route], None)  # type: ignore[arg-type]


def test_a_fixed_path_wins_over_a_parameter() -> None:
    routes = [Route("GET", p, IDENTITY, nothing, summary="s") for p in ("/x/{name}", "/x/fixed")]
    first, _ = api_handlers("/base", routes, None)  # type: ignore[arg-type]
    assert first.regex.fullmatch("/base/x/fixed")
    assert not first.regex.fullmatch("/base/x/other")


class Strict(BaseModel):
    x: int

    @model_validator(mode="after")
    def _no_seven(self) -> Strict:
        if self.x == 7:
            raise ValueError(f"{self.x} is not wanted")
        return self


def test_the_text_of_a_validator_is_not_repeated() -> None:
    """It may hold what the caller sent."""
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate({"x": 7})
    assert bad_body(caught.value).detail == "the body: the value is not allowed"
