"""What happens seldom, or in processes that no measurement survives: tried here in the test's own process."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launching import Place, place
from specola.core import people, processinfo, rights
from specola.core.accounts import Account, Ledger
from specola.core.errors import SpecolaError, Unavailable
from specola.core.files import replace_file
from specola.core.layout import Layout
from specola.core.people import OneAccount, ensure_account, furnish, remove_service_account
from specola.launcher import programs, records
from specola.launcher import reset as removal
from specola.launcher.__main__ import build, settings
from specola.launcher.child import write_files
from specola.launcher.programs import Programs
from specola.launcher.records import Records

SLEEP = ["/bin/sleep", "600"]


def started(**more: Any) -> dict[str, Any]:
    """What `Programs.start` takes."""
    nothing = {"env": {}, "files": {}, "directory": None, "memory_gib": None, "cores": None, "log": None}
    return {"key": "server.anna", "person": "anna", "argv": SLEEP} | nothing | more


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as one:
        yield one


@pytest.fixture
def running(here: Place) -> Iterator[Programs]:
    """The programs of a launcher in this process, without its socket."""
    _, one, _ = build(settings(here.arguments))
    yield one
    asyncio.run(one.end_all("", 0))


def there(path: Path) -> bool:
    return path.exists()


async def ended(running: Programs) -> None:
    while running.poll("server.anna")["alive"]:  # noqa: ASYNC110 - nobody is told of it
        await asyncio.sleep(0.01)


# files and accounts


def test_files_of_a_program_are_replaced_and_private(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / ".token.new").write_text("left by a kill")
    for text in ("old", "new"):
        write_files(tmp_path / "files", {"token": text})
    (token,) = (tmp_path / "files").iterdir()
    assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == ("new", 0o600)


def test_file_for_a_group_is_readable_by_it(tmp_path: Path) -> None:
    replace_file(tmp_path / "x", "text", group=os.getgid())
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def own(top: Path) -> Account:
    account = Account("me", os.getuid(), os.getgid(), top / "home", top / "runtime")
    account.home.mkdir()
    account.runtime.mkdir()
    return account


def test_links_of_an_older_facility_are_replaced_and_other_things_kept(tmp_path: Path) -> None:
    account = own(tmp_path)
    (account.home / ".run").symlink_to("/run/specola/old/anna/run")
    (account.home / ".specola").mkdir()
    furnish(account)
    furnish(account)
    assert (account.home / ".run").readlink() == account.runtime / "run"
    assert (account.home / ".specola").is_dir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_only_a_full_home_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(link: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(people, "_link", refuse)
    account = own(tmp_path)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            furnish(account)
    else:
        furnish(account)


def test_room_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    account = own(tmp_path)
    assert people.has_room(account) == ""
    furnish(account)
    assert people.has_room(account) == "yes"
    assert list((account.home / ".tmp").iterdir()) == []


def test_account_without_a_name_is_called_by_its_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(people, "runtime_base", lambda layout, uid: tmp_path / "runtime")
    account = asyncio.run(OneAccount(Layout(tmp_path / "state"), tmp_path / "homes").account("anna"))
    assert account.name == str(os.getuid())


def test_directory_of_ours_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("/etc")
    with pytest.raises(SpecolaError, match="is a link"):
        people.make_run_directory(tmp_path / "run")


@pytest.mark.needs_root
def test_group_that_is_there_already_is_used(here: Place) -> None:
    """Killed between the group and the account."""
    with Ledger(here.ledger).locked() as book:
        entry = book.intend(here.layout.id, "anna", here.layout.homes)
    people._tool("groupadd", "--force", "--system", people.GROUP)
    people._tool("groupadd", "--gid", str(entry.gid), entry.account)
    ensure_account(entry)
    assert pwd.getpwnam(entry.account).pw_gid == entry.gid


class Tools:
    """The tools of `passwd`, remembered instead of run."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.answers = list(answers)

    def run(self, argv: tuple[str, ...], **more: object) -> SimpleNamespace:
        self.asked.append(tuple(argv))
        words = self.answers.pop(0) if self.answers else ""
        return SimpleNamespace(returncode=1 if words else 0, stderr=words)


def test_tools_are_asked_again_while_the_accounts_are_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools("cannot lock /etc/passwd; try again later.", "cannot lock /etc/group")
    monkeypatch.setattr(subprocess, "run", tools.run)
    people._tool("userdel", "x")
    assert tools.asked == [("userdel", "x")] * 3


def test_shared_accounts_and_groups_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools()
    monkeypatch.setattr(subprocess, "run", tools.run)
    remove_service_account(people.GROUP)
    monkeypatch.setattr(people, "group_exists", lambda name: True)
    remove_service_account("specola")
    monkeypatch.setattr(people, "group_exists", lambda name: False)
    remove_service_account("specola")
    group, user = ("groupdel", "specola"), ("userdel", "specola")
    assert tools.asked == [("groupdel", people.GROUP), user, group, user]


def test_group_for_all_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Ledger(tmp_path / "accounts.json").locked() as book:
        entry = book.intend("f", "gina-never-made", tmp_path)
    tools = Tools()
    monkeypatch.setattr(subprocess, "run", tools.run)
    monkeypatch.setattr(people, "group_exists", lambda name: False)
    ensure_account(entry)
    assert [argv[0] for argv in tools.asked] == ["groupadd", "groupadd", "useradd"]


# programs


def test_end_of_a_program_is_seen_by_whoever_waits_for_it(running: Programs) -> None:
    async def story() -> None:
        await running.start(**started())
        assert running.signal("server.anna", signal.SIGKILL)["alive"] in {True, False}
        await ended(running)
        assert running.poll("server.anna") == {"alive": False, "code": -9}
        assert running.signal("server.anna", signal.SIGTERM) == {"alive": False, "code": -9}
        again = await running.start(**started(argv=["/bin/true"], log="other"))
        assert again["pid"]

    asyncio.run(story())


def test_record_that_vanished_is_said(running: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Records, "get", lambda self, key: None)
        with pytest.raises(SpecolaError, match="is gone"):
            asyncio.run(running.start(**started()))


def test_program_that_cannot_be_ended_is_named(running: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the kernel's hands, as after a disk failed; others are ended all the same."""

    async def story() -> None:
        await running.start(**started())
        await running.start(**started(key="server.bruno", person="bruno"))
        with monkeypatch.context() as patch:
            stuck = running._records.get("server.anna")
            assert stuck is not None
            killed = os.killpg
            patch.setattr(os, "killpg", lambda pid, number: None if pid == stuck.pid else killed(pid, number))
            patch.setattr(programs, "KILL_WAIT", 3.0)
            with pytest.raises(SpecolaError, match="does not end, even by SIGKILL"):
                await running.end_all("", 0)
        assert running.keys("") == ["server.anna"]

    asyncio.run(story())


def test_child_that_somebody_else_reaped_is_forgotten(running: Programs) -> None:
    async def story() -> None:
        pid = (await running.start(**started(argv=["/bin/true"])))["pid"]
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it ends at once
        running.reap()
        assert running.poll("server.anna") == {"alive": False, "code": None}

    asyncio.run(story())


def test_files_are_replaced_by_the_program_s_own_account(running: Programs) -> None:
    async def story() -> None:
        where = Path((await running.start(**started(files={"a": "b"})))["files"])
        await running.files("server.anna", {"a": "c"})
        assert (where / "a").read_text() == "c"
        await running.end("server.anna", 0)
        assert not there(where)

    asyncio.run(story())


def test_what_one_account_leaves_is_removed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without accounts: nothing is a child's work then."""
    with place() as here:
        monkeypatch.setattr(people, "runtime_base", lambda layout, uid: tmp_path / "runtime")
        _, running, _ = build(settings(here.arguments))
        monkeypatch.setattr(running, "_people", OneAccount(here.layout, here.layout.homes))

        async def story() -> None:
            where = Path((await running.start(**started(files={"a": "b"})))["files"])
            assert there(where)
            await running.end("server.anna", 0)
            assert not there(where)

        asyncio.run(story())


def test_key_that_is_just_started_is_not_started_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LOCK_WAIT", 0.1)
    kept = Records(tmp_path / "programs")
    other = os.open(tmp_path / "programs" / ".locks" / "server.anna", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)

    async def take() -> None:
        async with kept.lock("server.anna"):
            pass

    with pytest.raises(Unavailable, match="just being started"):
        asyncio.run(take())
    os.close(other)
    asyncio.run(take())


def test_tending_waits_for_a_key_that_is_busy(
    running: Programs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(records, "LOCK_WAIT", 0.1)

    async def story() -> None:
        await running.start(**started(argv=["/bin/true"]))
        await ended(running)
        async with running._records.lock("server.anna"):
            running.tend()
            await asyncio.gather(*running._tending.values())

    asyncio.run(story())
    assert "what server.anna left is tried again" in caplog.text


@pytest.mark.needs_root
def test_nothing_is_asked_of_an_account_that_was_given_away(running: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number under which sweeps are hidden may be somebody's on this machine; then it is not used."""
    seen: list[bool] = []

    async def act(account: Account, action: object, *, unreachable: bool = False) -> str:
        seen.append(unreachable)
        return await rights.as_account(account, action, unreachable=unreachable)  # type: ignore[arg-type]

    async def story() -> None:
        script = "setsid env -i /bin/sleep 606 & until grep -aq ^/bin/sleep /proc/$!/cmdline; do sleep 0.05; done"
        await running.start(**started(argv=["/bin/sh", "-c", script]))
        await ended(running)
        monkeypatch.setattr(programs, "as_account", act)
        monkeypatch.setattr(programs, "uid_is_used", lambda uid: True)
        monkeypatch.setattr(running._limits, "members", lambda key: set())
        await running.end("server.anna", 0)

    asyncio.run(story())
    assert seen
    assert not any(seen)


# reset


def test_shared_accounts_go_with_the_last_facility(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(removal, "LEDGER", here.ledger)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(removal, "remove_service_account", removed.append)
    known = {"specola": SimpleNamespace(pw_gecos=people.SERVICE_COMMENT, pw_uid=os.getuid())}
    monkeypatch.setattr(removal, "pwd", SimpleNamespace(getpwnam=known.__getitem__))
    monkeypatch.setattr(removal, "grp", SimpleNamespace(getgrnam=lambda name: SimpleNamespace(gr_name=name)))
    ledger = Ledger(here.ledger)
    found = removal.remains(here.layout, ledger)
    assert found.shared == ("specola", people.GROUP)
    assert "account    specola" in list(found.lines())
    removal.reset(here.layout, ledger, replace(found, directories=()))
    assert removed == ["specola", people.GROUP]
    known["specola"].pw_gecos = "Mrs. Specola"
    assert removal.remains(here.layout, ledger).shared == (people.GROUP,)


def test_process_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "KILL_WAIT", 0.1)
    monkeypatch.setattr(processinfo, "kill", lambda process: None)
    own = processinfo.identity(os.getpid())
    assert own is not None
    with pytest.raises(SpecolaError, match=f"process {os.getpid()} does not end"):
        removal._end((own,))
    assert removal._command(2**22 + 1) == ""
