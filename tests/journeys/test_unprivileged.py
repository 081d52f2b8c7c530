"""Everything as the invoking user: no root, no accounts, and the start page says what that means."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Facility, started

pytestmark = [pytest.mark.journey]


@pytest.fixture(scope="module")
def facility() -> Iterator[Facility]:
    """Started by an ordinary account; the suite drops to one when it is root."""
    account = pwd.getpwnam("games").pw_uid if os.geteuid() == 0 else None
    with started(account=account) as running:
        yield running


def test_a_person_logs_in_and_computes(facility: Facility) -> None:
    anna = facility.login("anna")
    assert "separates nobody from anybody" in anna.page.text  # type: ignore[attr-defined]
    anna.start_server()
    kernel = anna.kernel()
    uid = kernel.run("import os; print(os.getuid(), os.path.expanduser('~'))").split()
    assert int(uid[0]) == (os.geteuid() if facility.account is None else facility.account)
    assert Path(uid[1]) == facility.homes / "anna"
    out = kernel.run(
        "from specola_lab import scaleout\n"
        "with scaleout.cluster(workers=1) as cluster:\n"
        "    print(cluster.get_client().submit(sum, [1, 2]).result())"
    )
    assert out.strip().endswith("3")


def test_stop_leaves_nothing(facility: Facility) -> None:
    facility.stop()
    left = [path for path in Path("/proc").glob("[0-9]*") if belongs(path, str(facility.state.parent))]
    assert left == []


def belongs(process: Path, place: str) -> bool:
    try:
        return place.encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def test_reset_removes_it(facility: Facility) -> None:
    facility.specola("reset", "--yes", "--state", str(facility.state))
    assert not facility.state.exists()
    assert not (facility.homes / "anna").exists()
