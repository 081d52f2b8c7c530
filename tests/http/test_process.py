"""`python -m specola.server`: listens, and ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path

import httpx
import pytest
from apirig import runtime_for
from fakehub import FakeHub
from specola.core.layout import Layout
from specola.server.__main__ import serve


async def answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(url)).status_code == 200
        except httpx.TransportError:
            return False


async def test_it_listens_until_it_is_told_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub()
    hub.state.server("anna")
    runtime = runtime_for(tmp_path, hub)
    layout: Layout = runtime.layout
    layout.facility_file.write_text("groups: {physics: {}}\n")
    (layout.state / "runtime.json").write_text(json.dumps(runtime.addresses.model_dump(mode="json")))
    monkeypatch.setenv("SPECOLA_STATE", str(layout.state))
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        serving = asyncio.create_task(serve())
        async with asyncio.timeout(60):
            while not await answers(f"{runtime.service_url}healthz"):  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.02)
            while not any("state=active" in path for _, path in hub.state.calls):  # noqa: ASYNC110 - the hub's list
                await asyncio.sleep(0.02)  # until the culling loop has begun
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 60)
        assert not await answers(f"{runtime.service_url}healthz")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.raiseExceptions = True
        await hub.stop()
