"""The launcher as a real process, with real programs: as root with accounts, and as one ordinary account."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import Place
from specola.client.launcher import Alive, Gone, LauncherError
from specola.core import processinfo
from specola.core.errors import BadInput, Conflict, NotFound, Unavailable

SLEEP = ["/bin/sleep", "600"]


async def until(condition: Callable[[], object], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "not in time"
        await asyncio.sleep(0.02)


async def said(here: Place, key: str, word: str) -> str:
    limit = time.monotonic() + 120
    while word not in (text := await here.client().log(key)):
        assert time.monotonic() < limit, text
        await asyncio.sleep(0.02)
    return text


async def test_program_has_only_the_environment_that_was_given(running: Place) -> None:
    os.environ["PATH_SECRET"] = "of-root"
    try:
        started = await running.client().start("server.anna", "anna", ["/usr/bin/env"], {"LANG": "C", "END": "x"})
    finally:
        del os.environ["PATH_SECRET"]
    text = await said(running, "server.anna", "END=x")
    names = {line.partition("=")[0] for line in text.splitlines() if not line.startswith("COVERAGE_")}
    assert names <= {
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "XDG_RUNTIME_DIR", "JUPYTER_RUNTIME_DIR"),
        *("LANG", "END", "SPECOLA_PROGRAM", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    }
    assert f"HOME={started.home}\n" in text


async def test_asked_twice_it_is_the_same_program(running: Place) -> None:
    client = running.client()
    both = await asyncio.gather(*(client.start("server.anna", "anna", SLEEP, {}) for _ in range(4)))
    assert len({started.pid for started in both}) == 1
    assert await client.keys() == ["server.anna"]


async def test_key_of_another_person_is_refused(running: Place) -> None:
    client = running.client()
    await client.start("server.anna", "anna", SLEEP, {})
    with pytest.raises(Conflict):
        await client.start("server.anna", "bruno", SLEEP, {})


async def test_exit_code_is_known(running: Place) -> None:
    client = running.client()
    await client.start("server.anna", "anna", ["/bin/sh", "-c", "exit 7"], {})
    limit = time.monotonic() + 120
    while isinstance(state := await client.poll("server.anna"), Alive):
        assert time.monotonic() < limit
        await asyncio.sleep(0.05)
    assert state == Gone(7)
    assert await client.keys() == []
    assert await client.poll("server.nobody") == Gone(None)


async def test_end_takes_what_left_the_session_too(running: Place) -> None:
    """A kernel is a session leader of its own; ending the server ends it."""
    client = running.client()
    script = "setsid sleep 601 & setsid env -i /bin/sleep 602 & sleep 0.2; echo up; exec sleep 603"
    started = await client.start("server.anna", "anna", ["/bin/sh", "-c", script], {})
    await said(running, "server.anna", "up")
    uid = processinfo.owner(started.pid)
    names = ("sleep\x00601", "setsid", "sleep\x00603") + (
        ("sleep\x00602",) if uid != pwd.getpwnam("nobody").pw_uid else ()
    )

    def left() -> list[int]:
        return [pid for pid in processinfo.of_account(uid or -1) if any(name in command(pid) for name in names)]

    assert len(left()) >= 2
    assert isinstance(await client.end("server.anna", grace=1), Gone)
    assert left() == []
    assert not started.files.exists()
    if uid == pwd.getpwnam("nobody").pw_uid:
        # without accounts or groups nobody can tell whose it is
        for pid in processinfo.of_account(uid):
            if "602" in command(pid):
                os.kill(pid, signal.SIGKILL)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


async def test_what_outlives_a_program_that_ended_by_itself_is_ended(running: Place) -> None:
    client = running.client()
    script = "setsid sleep 604 & sleep 0.3"
    started = await client.start("server.anna", "anna", ["/bin/sh", "-c", script], {})
    uid = processinfo.owner(started.pid) or -1
    await until(lambda: not processinfo.alive(processinfo.Identity(started.pid, 0)))
    await until(lambda: not [pid for pid in processinfo.of_account(uid) if "604" in command(pid)])
    assert isinstance(await client.poll("server.anna"), Gone)


async def test_killed_launcher_finds_everything_again(running: Place) -> None:
    """kill -9 of the launcher: no program is lost, none is doubled, and all can be ended afterwards."""
    client = running.client()
    first = await client.start("server.anna", "anna", SLEEP, {}, files={"a": "b"})
    running.kill()
    running.start()
    assert await client.poll("server.anna") == Alive(first.pid)
    again = await client.start("server.anna", "anna", SLEEP, {})
    assert again == first
    await client.end("server.anna")
    assert processinfo.identity(first.pid) is None


async def test_launcher_killed_again_and_again_doubles_nothing(running: Place) -> None:
    """Starts race with kill -9: in the end there is exactly one program a key."""
    client = running.client(wait=60)
    keys = [f"cluster.c.worker.{number}" for number in range(6)]
    starts = [asyncio.create_task(client.start(key, "anna", SLEEP, {"KEY": key})) for key in keys]
    for _ in range(3):
        await asyncio.sleep(0.15)
        running.kill()
        running.start()
    pids = {started.pid for started in await asyncio.gather(*starts)}
    assert len(pids) == len(keys)
    uid = processinfo.owner(min(pids)) or -1
    mine = {pid for pid in processinfo.of_account(uid) if (processinfo.variable(pid, "KEY") or "") in keys}
    assert mine == pids
    assert sorted(await client.end_all("cluster.c.", grace=1)) == keys
    assert await client.keys() == []


async def test_client_waits_for_a_launcher_that_restarts(running: Place) -> None:
    running.kill()
    asking = asyncio.create_task(running.client().keys())
    await asyncio.sleep(0.3)
    assert not asking.done()
    running.start()
    assert await asking == []


async def test_client_says_that_nobody_answers(running: Place) -> None:
    running.kill()
    with pytest.raises(Unavailable):
        await running.client(wait=0.2).keys()
    running.start()


async def test_files_are_private_and_named_in_arguments(running: Place) -> None:
    script = 'cat "$1"/token; echo; stat -c %a "$1" "$1"/token; echo "$WHERE"; echo end'
    client = running.client()
    argv = ["/bin/sh", "-c", script, "sh", "{files}"]
    started = await client.start("server.anna", "anna", argv, {"WHERE": "{files}"}, files={"token": "s3cret"})
    lines = (await said(running, "server.anna", "end")).splitlines()
    assert lines == ["s3cret", "700", "600", str(started.files), "end"]
    assert (started.home / ".specola" / "server.anna").resolve() == started.files


async def test_files_of_a_running_program_can_be_replaced(running: Place) -> None:
    client = running.client()
    started = await client.start("server.anna", "anna", SLEEP, {}, files={"token": "old"})
    assert await client.files("server.anna", {"token": "new"}) == started.files
    assert (started.files / "token").read_text() == "new"
    with pytest.raises(NotFound):
        await client.files("server.bruno", {"token": "new"})


async def test_signal_reaches_the_program(running: Place) -> None:
    client = running.client()
    script = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done"
    await client.start("server.anna", "anna", ["/bin/sh", "-c", script], {})
    await said(running, "server.anna", "ready")
    await client.signal("server.anna", signal.SIGUSR1)
    await said(running, "server.anna", "caught")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "../etc"}, "key"),
        ({"key": "launcher"}, "key"),
        ({"person": ""}, "person"),
        ({"person": "a\nb"}, "control"),
        ({"person": "a" * 256}, "255"),
        ({"argv": []}, "argv"),
        ({"argv": ["sleep"]}, "absolute"),
        ({"argv": ["/bin/echo", "a\0b"]}, "NUL"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"env": {"A": "c\0"}}, "NUL"),
        ({"env": {"A": 1}}, "text"),
        ({"files": {"../x": "y"}}, "files"),
        ({"directory": "tmp"}, "absolute"),
        ({"memory_gib": -1}, "positive"),
        ({"cores": True}, "positive"),
        ({"account": "root"}, "does not take"),
    ],
)
async def test_bad_requests_are_refused_in_words(inside: Place, change: dict[str, object], words: str) -> None:
    ask = {"key": "server.anna", "person": "anna", "argv": SLEEP, "env": {}} | change
    with pytest.raises(BadInput, match=words):
        await inside.client()._ask("start", **ask)
    assert await inside.client().keys() == []


@pytest.mark.parametrize("line", [b"\n", b"x\n", b"[]\n", b'{"verb": "shell"}\n', b'{"verb": []}\n', b"7\n"])
async def test_nonsense_is_answered_in_words(inside: Place, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(inside.layout.launcher_socket)
    writer.write(line)
    assert b"bad_input" in await reader.readline()
    writer.close()


async def test_program_that_cannot_be_started_says_why(inside: Place) -> None:
    client = inside.client()
    with pytest.raises(LauncherError, match="No such file or directory: /bin/nothing"):
        await client.start("server.anna", "anna", ["/bin/nothing"], {})
    assert await client.poll("server.anna") == Gone(None)
    assert isinstance(await client.start("server.anna", "anna", SLEEP, {}), object)


async def test_names_that_people_bring_are_all_safe(inside: Place) -> None:
    """A person may be called root, have an @ or capitals or 200 characters: each gets a home of their own."""
    client = inside.client()
    names = ["root", "daemon", "anna@cern.ch", "Anna", "anna", "ä" * 200, "-", "a b", "..", "a" * 200]
    homes = set()
    for name in names:
        account = await client.account(name)
        assert account.home.parent == inside.layout.homes
        assert account.uid == os.getuid() if os.getuid() else account.uid >= 30000
        assert len(account.name) <= 31
        homes.add(account.home)
    assert len(homes) == len(names)


async def test_ledger_that_cannot_be_read_does_not_keep_programs_alive(inside: Place) -> None:
    """To end a program its record is enough."""
    client = inside.client()
    started = await client.start("server.anna", "anna", SLEEP, {})
    text = inside.ledger.read_text() if inside.ledger.exists() else None
    inside.ledger.parent.mkdir(exist_ok=True)
    inside.ledger.write_text("broken")
    try:
        await client.end("server.anna", grace=0)
    finally:
        inside.ledger.unlink() if text is None else inside.ledger.write_text(text)
    assert processinfo.identity(started.pid) is None


async def test_program_that_ignores_being_asked_is_ended(inside: Place) -> None:
    client = inside.client()
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    await client.start("server.anna", "anna", ["/bin/sh", "-c", script], {})
    await said(inside, "server.anna", "ready")
    assert await client.end("server.anna", grace=0.3) == Gone(-9)
    assert await client.end("server.anna") == Gone(None)


async def test_log_of_nobody_is_not_found(inside: Place) -> None:
    with pytest.raises(NotFound):
        await inside.client().log("server.nobody")
