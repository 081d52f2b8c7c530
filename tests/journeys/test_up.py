"""`specola up` in the foreground: it says what it does, Ctrl-C ends all of it, and what stands in the way is named."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SPECOLA, TOP, Facility, free_port, keep_logs, strip, wait_for

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def facility(place: Path) -> Iterator[Facility]:
    port = free_port()
    command = [
        "up",
        "--facility",
        str(TOP / "examples/demo.yaml"),
        "--state",
        str(place / "state"),
        "--port",
        str(port),
    ]
    running = Facility(place / "state", port, command)
    yield running
    keep_logs(running)
    running.specola("stop", "--state", str(running.state), check=False)
    running.specola("reset", "--yes", "--state", str(running.state), check=False)


def belongs(process: Path, place: Path) -> bool:
    try:
        return str(place).encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def left(place: Path) -> list[str]:
    return [
        path.name for path in Path("/proc").glob("[0-9]*") if belongs(path, place) and path.name != str(os.getpid())
    ]


def test_ctrl_c_ends_everything_user_servers_included(facility: Facility, place: Path) -> None:
    output = place / "output"
    with output.open("w") as file:
        # whoever runs the tests in the background ignores Ctrl-C, and so would what they start
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen([SPECOLA, *facility.command], stdout=file, stderr=file, cwd="/")
    wait_for(lambda: "Ctrl-C" in output.read_text(), 300, "the facility")
    said = strip(output.read_text())
    for name in ("hub", "proxy", "service", "gateway", "issuer"):
        assert f"✓ {name}" in said, "progress is shown"
    assert facility.url in said
    assert facility.logins()["anna"]["password"] in said
    assert str(facility.state) in said
    facility.login("anna").start_server()
    assert left(place)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 0
    assert left(place) == []


def test_a_second_up_finds_the_first(facility: Facility) -> None:
    facility.specola(*facility.command, "--detach")
    assert "up already" in facility.specola(*facility.command, "--detach").stdout
    doctor = facility.specola("doctor", "--state", str(facility.state), check=False)
    assert "✗" not in doctor.stdout, doctor.stdout
    facility.stop()


def test_a_port_that_is_taken_is_named(facility: Facility) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = ["up", "--detach", "--port", str(port), "--state", str(facility.state)]
        done = facility.specola(*command, check=False)
    assert done.returncode == 2
    assert f"port {port} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((facility.state / "runtime.json").read_text())["ports"]["proxy"] == facility.port


def test_a_state_directory_of_a_newer_release_is_refused_and_left(facility: Facility) -> None:
    version = facility.state / "version"
    before = version.read_text()
    version.write_text("999\n")
    done = facility.specola(*facility.command, "--detach", check=False)
    assert done.returncode == 2
    assert "newer release" in done.stderr
    assert version.read_text() == "999\n"
    version.write_text(before)


def test_a_facility_file_with_a_typo_starts_nothing(facility: Facility, place: Path) -> None:
    (place / "typo.yaml").write_text("name: demo\nserver:\n  idle_limit: 5\n")
    command = ["up", "--detach", "--facility", str(place / "typo.yaml"), "--state", str(facility.state)]
    done = facility.specola(*command, check=False)
    assert done.returncode == 2
    assert "typo.yaml:2: server" in done.stderr
    assert "servers" in done.stderr
    assert left(place) == []


@pytest.mark.needs_root
def test_reset_removes_what_was_made_and_nothing_else(facility: Facility, place: Path) -> None:
    homes, home = facility.homes, facility.home_of("anna")
    account = home.owner()
    listed = facility.specola("reset", "--dry-run", "--state", str(facility.state)).stdout
    assert account in listed
    assert str(home) in listed
    assert facility.state.exists(), "a dry run removes nothing"
    (homes / "mine").mkdir()
    facility.specola("reset", "--yes", "--state", str(facility.state))
    assert not facility.state.exists()
    assert not home.exists()
    assert account not in [known.pw_name for known in pwd.getpwall()]
    assert (homes / "mine").exists()
