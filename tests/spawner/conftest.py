"""Launchers for the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from launching import NOBODY, Place, launcher, place
from specola.launcher.__main__ import build, settings
from specola.launcher.server import serve


@pytest.fixture(
    params=[pytest.param(None, marks=pytest.mark.needs_root, id="root"), pytest.param(NOBODY, id="one-account")]
)
def running(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A launcher as a process of its own: for root with separate accounts, and for an ordinary account."""
    user = request.param if os.geteuid() == 0 else None
    with launcher(user) as here:
        yield here


@pytest.fixture
async def inside() -> AsyncIterator[Place]:
    """A launcher within the test's own process."""
    with place() as here:
        server, programs, owner = build(settings(here.arguments))
        listening = await serve(here.layout.launcher_socket, server, owner)
        try:
            yield here
        finally:
            await programs.end_all("", 0)
            listening.close()
