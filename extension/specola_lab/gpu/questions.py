"""What a GPU kernel asks of the facility: through its person's server, whose token stays here.

The worker may be on a machine of others, so only what is listed is passed on: to look, to ask for a slice that is held,
to renew and to give back. What would make this server start something is not.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

import aiohttp
from specola_worker.kernel.calls import CallError, Fields

from specola_lab.facility import Facility

_ID = "[A-Za-z0-9_-]{1,64}"
PASSED_ON = re.compile(
    rf"GET gpu/(offers|advice\?[A-Za-z0-9_.=&%-]{{1,200}}|requests(/{_ID})?|leases(/{_ID})?)"
    rf"|POST gpu/(requests|leases/{_ID}/renew)"
    rf"|DELETE gpu/(requests/{_ID}|leases/{_ID}\?token=[0-9]{{1,18}})"
)
LONGEST = 64 * 1024


class Questions:
    """Asks with the server's own token what a kernel may ask."""

    def __init__(self, facility: Facility) -> None:
        self._facility = facility

    async def ask(self, said: Fields, _: list[bytes]) -> Fields:
        """The answer as it is, `{"status", "body"}`; CallError for what is not passed on, or when nobody answers."""
        method, path, body = str(said.get("method")), str(said.get("path")), said.get("body")
        if not PASSED_ON.fullmatch(f"{method} {path}") or len(json.dumps(body)) > LONGEST:
            raise CallError("A GPU kernel cannot ask this: ask in the panel, or in a notebook of your server.")
        if isinstance(body, dict) and body.get("on_grant", "hold") != "hold":
            raise CallError("A GPU kernel can ask for a slice that is held for you, and for no more: ask in the panel.")
        try:
            async with self._facility.request(method, path, json=body) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallError("The facility service does not answer.") from error
        return {"status": answer.status, "body": _content(text, answer.status)}


def _content(text: bytes, status: int) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return {"title": f"The facility answered {HTTPStatus(status).phrase}"}
