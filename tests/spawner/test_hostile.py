"""What a person, or whoever took over the facility's account, plants to mislead or delay what runs as root."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from launching import Place, place
from specola.client.launcher import Alive, Gone, LauncherError
from specola.core import processinfo, rights
from specola.core.accounts import UNREACHABLE, Account, Ledger
from specola.core.errors import SpecolaError
from specola.core.files import read_regular
from specola.core.layout import Layout
from specola.core.rights import as_account
from specola.facility import supervisor
from specola.facility.processes import Process
from specola.launcher import child, logs, programs
from specola.launcher.__main__ import build, settings
from specola.launcher.logs import Logs
from specola.launcher.programs import Programs
from specola.launcher.reset import remains
from specola.launcher.server import serve

SLEEP = ["/bin/sleep", "600"]
NOBODY = 65_534


@pytest.fixture
async def both(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Place, Programs]]:
    """A launcher in this process, with its programs at hand; more patient than any test here."""
    monkeypatch.setattr(rights, "PATIENCE", 600.0)
    monkeypatch.setattr(child, "START_WITHIN", 600.0)
    with place() as here:
        server, running, owner = build(settings(here.arguments))
        listening = await serve(here.layout.launcher_socket, server, owner)
        try:
            yield here, running
        finally:
            await running.end_all("", 0)
            await tended(running)
            listening.close()


async def tended(running: Programs) -> None:
    await asyncio.gather(*running._tending.values())


async def until(condition: Callable[[], object], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "not in time"
        await asyncio.sleep(0.02)


async def gone(here: Place, key: str) -> None:
    limit = time.monotonic() + 120
    while isinstance(await here.client().poll(key), Alive):
        assert time.monotonic() < limit
        await asyncio.sleep(0.02)


async def child_since(before: set[int]) -> int:
    """The child of this process that is new."""
    await until(lambda: set(processinfo.children(os.getpid())) - before)
    (found,) = set(processinfo.children(os.getpid())) - before
    return found


def plant(account: Account, path: Path, make: Callable[[Path], object]) -> None:
    """Put something where the person may."""
    path.parent.mkdir(exist_ok=True)
    make(path)
    for one in (path.parent, path):
        os.chown(one, account.uid, account.gid, follow_symlinks=False)


# a person and the launcher


@pytest.mark.parametrize(
    ("make", "place_of_tmp"),
    [(os.mkfifo, ".tmp"), (Path.mkdir, "tmp"), (lambda path: path.symlink_to("/etc/passwd"), ".tmp")],
    ids=["fifo", "directory", "link"],
)
async def test_what_lies_where_room_is_tried_delays_nobody(
    both: tuple[Place, Programs], make: Callable[[Path], object], place_of_tmp: str
) -> None:
    here, _ = both
    account = await here.client().account("anna")
    plant(account, account.home / ".tmp" / ".room", make)
    async with asyncio.timeout(120):
        started = await here.client().start("server.anna", "anna", SLEEP, {})
        await here.client().keys()
    assert Path(processinfo.variable(started.pid, "TMPDIR") or "").name == place_of_tmp


@pytest.mark.needs_root
async def test_whoever_stops_what_acts_for_them_waits_alone(both: tuple[Place, Programs]) -> None:
    here, _ = both
    anna = await here.client().account("anna")
    before = set(processinfo.children(os.getpid()))
    stopped = asyncio.create_task(as_account(anna, lambda: os.kill(os.getpid(), signal.SIGSTOP)))
    helper = await child_since(before)
    await until(lambda: (processinfo._fields(helper) or [""])[0] == "T")
    await here.client().start("server.bruno", "bruno", SLEEP, {})
    assert not stopped.done()
    os.kill(helper, signal.SIGCONT)
    await stopped
    with pytest.raises(SpecolaError, match="did not end in time"):
        await as_account(anna, lambda: os.kill(os.getpid(), signal.SIGSTOP), within=1.0)


@pytest.mark.needs_root
async def test_program_that_is_stopped_while_it_starts_is_given_up(
    both: tuple[Place, Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = both
    with monkeypatch.context() as patch:
        patch.setattr(child, "write_files", lambda directory, files: os.kill(os.getpid(), signal.SIGSTOP))
        patch.setattr(child, "START_WITHIN", 5.0)
        starting = asyncio.create_task(here.client().start("server.anna", "anna", SLEEP, {}))
        while not await here.client().keys():
            assert not starting.done()
        async with asyncio.timeout(120):
            with pytest.raises(LauncherError, match="stopped while it started"):
                await starting
    assert await here.client().poll("server.anna") == Gone(None)
    await here.client().start("server.anna", "anna", SLEEP, {})


@pytest.mark.needs_root
async def test_signal_to_what_acts_for_a_person_does_not_reach_the_launcher(both: tuple[Place, Programs]) -> None:
    here, _ = both
    anna = await here.client().account("anna")
    heard: list[int] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, heard.append, signal.SIGTERM)
    try:
        with pytest.raises(SpecolaError, match="ended"):
            await as_account(anna, lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(1))
        await asyncio.sleep(0.1)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
    assert heard == []


@pytest.mark.needs_root
async def test_what_ends_a_persons_processes_cannot_be_stopped_by_them(both: tuple[Place, Programs]) -> None:
    here, _ = both
    anna = await here.client().account("anna")

    tried = anna.home / "tried"

    def look() -> str:
        while not tried.exists():
            time.sleep(0.01)
        return " ".join(map(str, os.getresuid()))

    before = set(processinfo.children(os.getpid()))
    acting = asyncio.create_task(as_account(anna, look, unreachable=True))
    helper = await child_since(before)
    await until(lambda: processinfo.owner(helper) == UNREACHABLE)
    with pytest.raises(SpecolaError, match="not permitted"):
        await as_account(anna, lambda: os.kill(helper, signal.SIGSTOP))
    tried.touch()
    assert await acting == f"{UNREACHABLE} {anna.uid} {UNREACHABLE}"


async def test_what_is_left_is_ended_although_its_end_was_noticed_before(both: tuple[Place, Programs]) -> None:
    here, running = both
    script = "setsid sleep 605 & sleep 0.2"
    await here.client().start("server.anna", "anna", ["/bin/sh", "-c", script], {})
    await gone(here, "server.anna")

    def left() -> list[int]:
        return [pid for pid in processinfo.pids() if processinfo.variable(pid, programs.MARK) == mark]

    mark = f"{here.layout.id}/server.anna"
    assert left()
    running.tend()
    running.tend()
    await tended(running)
    assert left() == []
    running.tend()
    assert not running._tending, "what is clean is not looked for again"


async def test_what_appears_while_it_is_swept_is_swept_again(
    both: tuple[Place, Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look is not enough: what it kills may have forked just before."""
    here, running = both
    await here.client().start("server.anna", "anna", ["/bin/true"], {})
    await gone(here, "server.anna")
    late: list[subprocess.Popen[bytes]] = []
    looked = Programs._left_behind

    def left_behind(self: Programs, record: object) -> list[processinfo.Identity]:
        found = looked(self, record)  # type: ignore[arg-type]
        if len(late) < 2:
            mark = {programs.MARK: f"{here.layout.id}/server.anna"}
            late.append(subprocess.Popen(SLEEP, env=mark, user=record.uid))  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(Programs, "_left_behind", left_behind)
    monkeypatch.setattr(Programs, "_sweep_account", lambda self, record: asyncio.sleep(0, len(late) < 2))
    running.tend()
    await tended(running)
    assert [one.wait(120) for one in late] == [-9, -9]


async def test_trouble_with_one_program_does_not_end_the_launcher(
    both: tuple[Place, Programs], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here, running = both
    for key in ("server.anna", "server.bruno"):
        await here.client().start(key, key.removeprefix("server."), ["/bin/true"], {})
        await gone(here, key)
    swept: list[str] = []

    async def sweep(self: Programs, record: SimpleNamespace) -> bool:
        swept.append(record.key)
        if record.key == "server.anna":
            raise SpecolaError("as sp-anna: did not end in time")
        return False

    monkeypatch.setattr(programs, "KILL_WAIT", 0.1)
    monkeypatch.setattr(programs, "TEND_EVERY", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(Programs, "_sweep", sweep)
        tending = asyncio.create_task(running.tend_for_ever())
        await until(lambda: "server.bruno" in swept and swept.count("server.anna") > 10)
        patch.setattr(Programs, "tend", lambda self: 1 / 0)
        await until(lambda: "tending is tried again" in caplog.text)
    await until(lambda: all(record.swept for record in running._records.all()))
    tending.cancel()
    assert "did not end in time" in caplog.text


async def test_program_whose_rest_cannot_be_ended_yet_is_tended_on(
    both: tuple[Place, Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, running = both
    await here.client().start("server.anna", "anna", SLEEP, {})
    monkeypatch.setattr(programs, "KILL_WAIT", 3.0)
    with monkeypatch.context() as patch:
        patch.setattr(Programs, "_sweep_account", lambda self, record: asyncio.sleep(0, result=True))
        assert isinstance(await here.client().end("server.anna", grace=0), Gone)
    assert running._records.get("server.anna") is not None
    assert await here.client().keys() == []
    running.tend()
    await tended(running)
    assert await here.client().end("server.anna") == Gone(-9)
    assert running._records.get("server.anna") is None


async def test_files_that_cannot_be_removed_do_not_keep_a_program(
    both: tuple[Place, Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, running = both
    await here.client().start("server.anna", "anna", SLEEP, {})

    async def refuse(self: Programs, account: Account, action: object) -> str:
        raise SpecolaError("as sp-anna: did not end in time")

    monkeypatch.setattr(Programs, "_as_person", refuse)
    assert await here.client().end("server.anna", grace=0) == Gone(-9)
    assert running._records.get("server.anna") is None


# logs


async def test_log_that_grows_is_shortened_and_written_on(both: tuple[Place, Programs]) -> None:
    here, running = both
    path = here.layout.run / "logs" / "server.anna.log"
    script = "head -c 21000000 /dev/zero | tr '\\0' x; echo; echo first; while :; do sleep 0.05; echo more; done"
    await here.client().start("server.anna", "anna", ["/bin/sh", "-c", script], {})
    limit = time.monotonic() + 120
    while "first" not in await here.client().log("server.anna"):
        assert time.monotonic() < limit
        await asyncio.sleep(0.05)
    running.tend()
    size = path.stat().st_size
    assert size < 2 * logs.KEPT
    kept = path.read_text()
    # the program goes on while its log is shortened, so that a line of it may come first
    assert "[what was here before was removed" in kept[:1000]
    assert "first" in kept
    await until(lambda: path.stat().st_size > size)
    assert path.read_text().endswith("more\n")


def test_logs_of_ended_clusters_are_removed_after_an_hour(tmp_path: Path) -> None:
    kept = Logs(tmp_path / "logs")
    keys = ("cluster.a.worker.1", "cluster.b.worker.1", "cluster.c.worker.1", "server.anna")
    for key in keys:
        os.close(kept.open(key))
        if "b" not in key:
            os.utime(tmp_path / "logs" / f"{key}.log", (0, time.time() - logs.OLD - 1))
    kept.tidy({"cluster.c.worker.1"})
    assert sorted(path.stem for path in (tmp_path / "logs").iterdir()) == sorted(keys[1:])


# whoever took over the facility's account, and root


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as one:
        yield one


def pids_of(here: Place, uid: int) -> Path:
    directory = here.layout.state / "pids"
    directory.mkdir(parents=True)
    os.chown(directory, uid, uid)
    return directory


def process(uid: int | None = None) -> tuple[subprocess.Popen[bytes], processinfo.Identity]:
    running = subprocess.Popen(SLEEP, user=uid)
    found = processinfo.identity(running.pid)
    assert found is not None
    return running, found


@pytest.mark.needs_root
def test_record_speaks_for_its_own_account_only(here: Place) -> None:
    """Whoever writes another's pid into a record does not get it killed by root."""
    directory = pids_of(here, NOBODY)
    roots, other = process()
    own, mine = process(NOBODY)
    try:
        (directory / "hub").write_text(f"{other.pid} {other.start}")
        (directory / "gateway").write_text(f"{mine.pid} {mine.start}")
        ours = set(remains(here.layout, Ledger(here.ledger)).programs)
        assert mine in ours
        assert other not in ours
        assert supervisor.end_running(here.layout) == ["gateway"]
        assert roots.poll() is None
        assert own.wait(120) == -15
    finally:
        for one in (roots, own):
            one.kill()
            one.wait()


def test_what_is_no_record_keeps_nobody_waiting(here: Place) -> None:
    directory = pids_of(here, os.getuid())
    running, known = process()
    try:
        (here.top / "elsewhere").write_text(f"{known.pid} {known.start}")
        os.mkfifo(directory / "fifo")
        (directory / "link").symlink_to(here.top / "elsewhere")
        (directory / "directory").mkdir()
        (directory / "words").write_text("one two three")
        (directory / "odd").write_text("\u00b2 \u0663")
        (directory / "old").write_text(f"{known.pid} {known.start + 1}")
        assert list(processinfo.recorded(directory)) == []
        (here.top / "pids").symlink_to(directory)
        (directory / "real").write_text(f"{known.pid} {known.start}")
        assert list(processinfo.recorded(here.top / "pids")) == []
        assert list(processinfo.recorded(here.top / "none")) == []
        assert list(processinfo.recorded(directory)) == [("real", known)]
    finally:
        running.kill()
        running.wait()


def test_end_of_a_log_is_shown_and_nothing_that_is_planted_in_its_place(tmp_path: Path) -> None:
    runtime = SimpleNamespace(layout=Layout(tmp_path / "state"))
    (tmp_path / "state" / "logs").mkdir(parents=True)
    log = tmp_path / "state" / "logs" / "hub.log"
    hub = Process("hub", ("/bin/true",), "http://127.0.0.1:1/")
    log.write_text("why\n")
    assert "    why" in supervisor._why(runtime, hub)  # type: ignore[arg-type]
    log.unlink()
    for make in (lambda path: path.symlink_to("/etc/passwd"), os.mkfifo):
        make(log)  # type: ignore[no-untyped-call]
        assert supervisor._why(runtime, hub).endswith("(it wrote nothing)")  # type: ignore[arg-type]
        log.unlink()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("0123456789")
    assert read_regular(tmp_path / "file", 3) == "789"
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("fifo", "link"):
        with pytest.raises(OSError, match=name):
            read_regular(tmp_path / name)
