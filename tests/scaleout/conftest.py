"""One real gateway for the tests that only use it; those that break something start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaleout import rig as rigs


@pytest.fixture(scope="session")
def rig() -> Iterator[rigs.Rig]:
    with rigs.started() as running:
        yield running


@pytest.fixture
def fresh_rig() -> Iterator[rigs.Rig]:
    """One that a test may kill parts of."""
    with rigs.started() as running:
        yield running
