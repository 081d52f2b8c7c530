"""The wrapper of each process: one at a time, a log of its own, secrets from files, a POST once it runs."""

from __future__ import annotations

import fcntl
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from running import wait_for
from specola.facility import sibling


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("pids", "logs"):
        (tmp_path / name).mkdir()
    return tmp_path / "pids", tmp_path / "logs"


def run(places: tuple[Path, Path], *settings: str, argv: list[str]) -> subprocess.CompletedProcess[str]:
    wrapper = [sys.executable, "-I", sibling.__file__, "it", str(places[0]), str(places[1])]
    return subprocess.run([*wrapper, *settings, "--", *argv], text=True, capture_output=True, timeout=120, check=False)


def test_output_goes_to_a_log_of_its_own(places: tuple[Path, Path]) -> None:
    done = run(places, argv=["/bin/sh", "-c", "echo said; echo wrong >&2"])
    assert (done.stdout, done.stderr) == ("", "")
    assert (places[1] / "it.log").read_text() == "said\nwrong\n"


def test_the_record_names_pid_and_start_time(places: tuple[Path, Path]) -> None:
    run(places, argv=["/bin/sh", "-c", f"cat {places[0]}/it; echo; echo $$; cut -d' ' -f22 /proc/$$/stat"])
    record, pid, start = (places[1] / "it.log").read_text().split("\n")[:3]
    assert record.split() == [pid, start]


def test_a_second_one_does_not_start(places: tuple[Path, Path]) -> None:
    with (places[0] / "it").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run(places, argv=["/bin/true"]).returncode == sibling.ALREADY_RUNS


def test_a_secret_comes_from_its_file(places: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    run(places, f"TOKEN=@{tmp_path / 'secret'}", argv=["/bin/sh", "-c", "echo $TOKEN"])
    assert (places[1] / "it.log").read_text() == "s3cret\n"


def test_the_post_is_tried_until_it_succeeds(places: tuple[Path, Path], tmp_path: Path) -> None:
    heard: list[tuple[str, str | None]] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.path, self.headers["Authorization"]))
            self.send_response(200 if len(heard) > 1 else 503)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "token").write_text("t0ken")
    url = f"http://127.0.0.1:{server.server_port}/routes"
    run(places, f"then={url}@{tmp_path / 'token'}", argv=["/bin/true"])
    wait_for(lambda: len(heard) == 2, 120)
    server.shutdown()
    server.server_close()
    assert heard == [("/routes", "token t0ken")] * 2


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sibling, "LOG_LIMIT", 3)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    (tmp_path / "it.log").write_text("long")
    sibling.open_log(tmp_path / "it.log")
    assert (tmp_path / "it.log.1").read_text() == "long"
    assert (tmp_path / "it.log").read_text() == ""


def test_it_becomes_the_program(places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda program, argv: became.append((program, argv)))
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(sibling, "post_in_background", lambda *arguments: became.append(arguments[1:]))
    monkeypatch.setenv("TOKEN", "before")
    (tmp_path / "secret").write_text("s")
    settings = [f"TOKEN=@{tmp_path / 'secret'}", f"then=http://there@{tmp_path / 'secret'}"]
    sibling.main(["it", str(places[0]), str(places[1]), *settings, "--", "/bin/true", "x"])
    assert os.environ["TOKEN"] == "s"
    assert became == [("http://there", "s"), ("/bin/true", ["/bin/true", "x"])]


def test_the_lock_in_process(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sibling.time, "sleep", lambda _: None)
    lock = sibling.hold_lock(places[0] / "it")
    with pytest.raises(SystemExit):
        sibling.hold_lock(places[0] / "it")
    os.close(lock)
