"""Fixtures of identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from identity_rig import Client, RunningIssuer, issuer_running


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[RunningIssuer]:
    """Our issuer, fresh, with three people."""
    with issuer_running(tmp_path) as running:
        yield running


@pytest.fixture
def client(issuer: RunningIssuer) -> Iterator[Client]:
    """A client and browser for it."""
    one = Client(issuer)
    yield one
    one.http.close()
