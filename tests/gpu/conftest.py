"""What tests about GPUs may ask for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def doors_of_simulated_gpus_go_with_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie in the machine's directory for temporary files, where a facility's are removed by `specola reset`."""
    place = tmp_path / "doors"
    place.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
