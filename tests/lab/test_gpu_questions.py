"""What a GPU kernel asks of the facility through its person's server, and what it may not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from specola_lab.gpu.questions import LONGEST, Questions
from specola_worker.kernel.calls import CallError


class Answer:
    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self._text = text

    async def read(self) -> bytes:
        return self._text.encode()


class Asked:
    """The connection to the facility; it answers what it is told to."""

    def __init__(self, status: int = 200, text: str = '{"items": []}', fails: Exception | None = None) -> None:
        self.answer = Answer(status, text)
        self.fails = fails
        self.asked: list[tuple[str, str, Any]] = []

    @contextlib.asynccontextmanager
    async def request(self, method: str, path: str, *, json: Any) -> AsyncIterator[Answer]:
        self.asked.append((method, path, json))
        if self.fails is not None:
            raise self.fails
        yield self.answer


async def ask(facility: Asked, method: object, path: object, body: object = None) -> dict[str, Any]:
    return dict(await Questions(facility).ask({"method": method, "path": path, "body": body}, []))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "gpu/offers", None),
        ("GET", "gpu/advice?gib=20&minutes=60", None),
        ("GET", "gpu/leases", None),
        ("GET", "gpu/leases/ab12", None),
        ("POST", "gpu/leases/ab12/renew", {"token": 3, "minutes": 60}),
        ("DELETE", "gpu/leases/ab12?token=3", None),
        ("GET", "gpu/requests/ab12", None),
        ("POST", "gpu/requests", {"gib": 5, "on_grant": "hold"}),
        ("DELETE", "gpu/requests/ab12", None),
    ],
)
async def test_what_concerns_ones_own_gpus_is_passed_on(method: str, path: str, body: Any) -> None:
    facility = Asked()
    assert await ask(facility, method, path, body) == {"status": 200, "body": {"items": []}}
    assert facility.asked == [(method, path, body)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "me", None),
        ("POST", "servers", {"name": ""}),
        ("GET", "gpu/overview", None),
        ("PUT", "gpu/drains/a/b", {}),
        ("POST", "gpu/grants/redeem", {}),
        ("POST", "gpu/leases/ab12/grant", {"token": 1}),
        ("POST", "gpu/leases/ab12/kernel", {"token": 1}),
        ("POST", "gpu/leases/ab12/saved", {"token": 1}),
        ("GET", "gpu/leases/../../me", None),
        ("GET", "gpu/leases/ab12\n", None),
        ("GET", "gpu/leases?x=1", None),
        ("get", "gpu/offers", None),
        (None, None, None),
        (7, ["gpu/offers"], None),
        ("POST", "gpu/requests", {"gib": 5, "notebook": "x" * LONGEST}),
        ("POST", "gpu/requests", {"gib": 5, "on_grant": "kernel"}),
        ("POST", "gpu/requests", {"gib": 5, "on_grant": "notebook", "notebook": "a.ipynb"}),
    ],
)
async def test_anything_else_is_not(method: object, path: object, body: object) -> None:
    """The worker may be on a machine of others: it starts nothing here, and sees nothing but GPUs."""
    facility = Asked()
    with pytest.raises(CallError, match="ask in the panel"):
        await ask(facility, method, path, body)
    assert facility.asked == []


async def test_a_refusal_comes_back_as_it_is() -> None:
    problem = {"title": "There is no such lease", "status": 404}
    assert await ask(Asked(404, json.dumps(problem)), "GET", "gpu/leases/ab") == {"status": 404, "body": problem}
    assert (await ask(Asked(502, "<html>"), "GET", "gpu/offers"))["body"] == {
        "title": "The facility answered Bad Gateway"
    }
    assert await ask(Asked(204, ""), "DELETE", "gpu/requests/ab") == {"status": 204, "body": None}


@pytest.mark.parametrize("error", [aiohttp.ClientError(), TimeoutError()])
async def test_a_facility_that_does_not_answer_is_said(error: Exception) -> None:
    with pytest.raises(CallError, match="does not answer"):
        await ask(Asked(fails=error), "GET", "gpu/offers")
