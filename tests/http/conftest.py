from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from apirig import Rig, serving


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A service of its own for each test."""
    async with serving(tmp_path) as running:
        yield running
