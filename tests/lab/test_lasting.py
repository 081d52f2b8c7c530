"""A server's knowledge of tokens while the hub is away."""

from __future__ import annotations

from typing import Any

import pytest
from specola_lab.lasting import outlast
from tornado.web import HTTPError


class Auth:
    """JupyterHub's `HubAuth`, whose hub comes and goes."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {"good": {"name": "anna"}}
        self.away = False
        self.now = 1000.0
        outlast(self, grace=100, clock=lambda: self.now)

    def user_for_token(self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True) -> Any:
        return "at once" if sync else self._ask(token)

    async def _ask(self, token: str) -> Any:
        if self.away:
            raise HTTPError(500, "Failed to connect")
        return self.tokens.get(token)


async def test_whoever_was_in_stays_in_while_the_hub_is_away() -> None:
    auth = Auth()
    assert await auth.user_for_token("good", sync=False) == {"name": "anna"}
    assert await auth.user_for_token("bad", sync=False) is None
    auth.away = True
    auth.now += 90
    assert await auth.user_for_token("good", sync=False) == {"name": "anna"}
    for token in ("bad", "unknown"):
        with pytest.raises(HTTPError):
            await auth.user_for_token(token, sync=False)


async def test_it_does_not_last_for_ever() -> None:
    auth = Auth()
    await auth.user_for_token("good", sync=False)
    auth.away = True
    auth.now += 101
    with pytest.raises(HTTPError):
        await auth.user_for_token("good", sync=False)
    auth.away = False
    assert await auth.user_for_token("other", sync=False) is None
    assert await auth.user_for_token("good", sync=False) == {"name": "anna"}


async def test_a_token_that_the_hub_refused_is_not_remembered() -> None:
    auth = Auth()
    await auth.user_for_token("good", sync=False)
    del auth.tokens["good"]
    assert await auth.user_for_token("good", sync=False) is None
    auth.away = True
    with pytest.raises(HTTPError):
        await auth.user_for_token("good", sync=False)
    assert auth.user_for_token("good") == "at once"
