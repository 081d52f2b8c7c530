"""A runtime in a temporary directory, without any process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from specola.core.layout import SECRETS, Layout
from specola.facility.loader import load_text
from specola.facility.prepare import free_ports, write_secret
from specola.facility.runtime import Addresses, Ports, Runtime


@pytest.fixture
def runtime_of(tmp_path: Path) -> Callable[[str], Runtime]:
    """Make a runtime from the text of a facility file."""

    def make(text: str = "", *, public_url: str = "http://127.0.0.1:8000/", separate: bool = True) -> Runtime:
        layout = Layout(tmp_path / "state")
        for place in (layout.secrets, layout.state / "pids", layout.run / "pids", layout.run / "logs"):
            place.mkdir(parents=True, exist_ok=True)
        for name in SECRETS:
            write_secret(layout, name)
        addresses = Addresses(
            ports=Ports.model_validate(free_ports(tuple(Ports.model_fields))),
            public_url=public_url,
            env=Path(sys.prefix),
            separate_accounts=separate,
        )
        return Runtime(layout, load_text(text, "facility.yaml"), addresses)

    return make
