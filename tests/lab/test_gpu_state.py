"""The thread beside a GPU kernel, and the worker around it, without a kernel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from specola_lab import gpu as api
from specola_worker.kernel import __main__ as program
from specola_worker.kernel import child, order, snapshot, state, worker, zygote
from specola_worker.kernel.calls import CallError

SOON = 30.0


class Events:
    """As IPython's."""

    def __init__(self) -> None:
        self.registered: dict[str, list[Callable[[Any], None]]] = {}

    def register(self, name: str, function: Callable[[Any], None]) -> None:
        self.registered.setdefault(name, []).append(function)

    def unregister(self, name: str, function: Callable[[Any], None]) -> None:
        self.registered[name].remove(function)

    def happen(self, name: str, about: Any = None) -> None:
        for function in list(self.registered[name]):
            function(about or SimpleNamespace(store_history=True))


class Beside:
    """A state, its shell, and the worker's end of the socket."""

    def __init__(self, place: Path, home: str) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(SOON)
        self.lines = self.ours.makefile("rb")
        self.events = Events()
        self.names: dict[str, Any] = {"__name__": "__main__", "x": 1}
        shell = SimpleNamespace(user_ns=self.names, user_ns_hidden={}, events=self.events)
        self.state = state.State(theirs.detach(), shell, place, home=home, about={"lease": "lease-1"})
        self.state.start()

    def heard(self) -> dict[str, Any]:
        while True:
            said = dict(json.loads(self.lines.readline()))
            # a widget of an earlier test may still ask: it takes this process for a GPU kernel now
            if said.get("ask") != "api":
                return said

    def say(self, **message: Any) -> None:
        self.ours.sendall(json.dumps(message).encode() + b"\n")


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set instead of ending this process."""
    event = threading.Event()
    monkeypatch.setattr(state, "current", None)  # and again when the test is over
    monkeypatch.setattr(state.os, "_exit", lambda _code: event.set())
    return event


@pytest.fixture(params=["shared", "none"])
def beside(tmp_path: Path, request: pytest.FixtureRequest, ended: threading.Event) -> Iterator[Beside]:
    made = Beside(tmp_path / "snapshots", request.param)
    yield made
    made.ours.shutdown(socket.SHUT_RDWR)
    assert ended.wait(SOON), "a kernel whose worker is gone goes on"
    made.lines.close()
    made.ours.close()


def answering(beside: Beside, reply: Callable[[dict[str, Any]], dict[str, Any]]) -> threading.Thread:
    """A worker that answers one question."""

    def answer() -> None:
        asked = beside.heard()
        beside.say(reply=asked["id"], **reply(asked))

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_it_saves_when_it_is_told_to_and_says_what(beside: Beside, tmp_path: Path) -> None:
    api.checkpoint(lambda: None, name="nothing")
    assert beside.heard() == {"tell": "hooks", "count": 1}
    beside.say(do="save", id=7, within=30, limit=10**6)
    said = beside.heard()
    assert (said["answer"], said["names"], said["failed"]) == (7, ["x"], [])
    assert [one["name"] for one in said["hooks"]] == ["nothing"]
    assert (tmp_path / "snapshots/lease-1/manifest.json").exists()


def test_what_goes_wrong_while_it_saves_is_said(beside: Beside, tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("no directory")
    beside.say(do="save", id=8, within=30, limit=10**6)
    said = beside.heard()
    assert said["names"] == []
    assert said["failed"][0]["name"] == "*"


def test_a_cell_that_runs_is_interrupted_before_its_variables_are_saved(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []

    def kill(pid: int, signum: int) -> None:
        sent.append((pid, signum))
        beside.events.happen("post_run_cell")

    monkeypatch.setattr(state.os, "kill", kill)
    beside.state.save(within=30, limit=10**6)
    assert sent == []
    beside.events.happen("pre_run_cell", SimpleNamespace(store_history=False))
    beside.state.save(within=30, limit=10**6)
    assert sent == [(os.getpid(), signal.SIGINT)]


def test_snapshots_are_read_in_place_or_fetched(beside: Beside, tmp_path: Path) -> None:
    beside.state.save(within=30, limit=10**6)
    del beside.names["x"]
    shared = beside.state._home == "shared"
    manifests = snapshot.listing(tmp_path / "snapshots")
    helpers = [] if shared else [answering(beside, lambda _: {"snapshots": manifests})]
    assert [one["name"] for one in api.snapshots()] == ["lease-1"]
    for helper in helpers:
        helper.join()
    if not shared:

        def twice() -> None:
            for reply in ({"snapshots": manifests}, {}):
                beside.say(reply=beside.heard()["id"], **reply)

        helper = threading.Thread(target=twice)
        helper.start()
    restored = api.restore()
    assert beside.names["x"] == 1
    assert repr(restored).startswith("Restored 1 variables of lease-1: x")


def test_what_came_back_and_what_did_not_is_shown() -> None:
    shown = repr(state.Restored("lease-1", [], ["weights"], [{"name": "y", "why": "Not installed here: z."}]))
    assert shown.splitlines() == [
        "Restored 0 variables of lease-1: none",
        "Loaded the checkpoint weights",
        "Not restored: y (Not installed here: z.)",
    ]


def test_a_server_that_does_not_answer_is_an_error(beside: Beside) -> None:
    if beside.state._home == "shared":
        with pytest.raises(LookupError, match="no snapshot yet"):
            api.restore()
        return
    helper = answering(beside, lambda _: {"error": "The server did not answer in time."})
    with pytest.raises(RuntimeError, match="did not answer"):
        api.snapshots()
    helper.join()


def test_what_was_saved_is_offered_once_above_the_first_cell_of_a_person(
    tmp_path: Path, ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    made = Beside(tmp_path / "snapshots", "shared")
    made.state.save(within=30, limit=10**6)
    made.events.happen("pre_run_cell", SimpleNamespace(store_history=False))
    assert shown == []
    made.events.happen("pre_run_cell")
    made.events.happen("pre_run_cell")
    (bundle,) = shown
    assert "gpu.restore('lease-1')" in bundle["text/plain"]
    assert "<code>" in bundle["text/html"]
    made.ours.shutdown(socket.SHUT_RDWR)
    assert ended.wait(SOON)
    made.lines.close()
    made.ours.close()


# the order

GOOD: dict[str, Any] = {
    "relay_url": "ws://127.0.0.1:1/x",
    "secret": "s" * 43,
    "lease": "lease-1",
    "kernel_id": "k" * 8,
    "another": "field of a later version",
}
BAD = {
    "no address of a websocket": {"relay_url": "http://x"},
    "no kind of home": {"home": "elsewhere"},
    "another kernel": {"kernel_name": "root"},
}


def test_an_order_may_say_more_than_a_worker_knows(tmp_path: Path) -> None:
    (tmp_path / "kernel.json").write_text(json.dumps(GOOD))
    read = order.read(tmp_path / "kernel.json")
    assert (read.lease, read.home, read.grace) == ("lease-1", "shared", 60.0)
    assert GOOD["secret"] not in repr(read)


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD.keys())
def test_an_order_that_cannot_be_served_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (tmp_path / "kernel.json").write_text(json.dumps(GOOD | wrong))
    with pytest.raises(order.OrderError):
        order.read(tmp_path / "kernel.json")
    assert program.main([str(tmp_path / "kernel.json")]) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_file_that_is_no_order_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "kernel.json").write_text(text)
    with pytest.raises(order.OrderError, match="is no order"):
        order.read(tmp_path / "kernel.json")


# the worker


async def made(home: str = "shared", **more: Any) -> tuple[worker.Worker, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    known = {name: value for name, value in GOOD.items() if name != "another"}
    return worker.Worker(order.Order(**known, home=home, **more), ours), theirs


async def test_without_a_kernel_there_is_nothing_to_save_to_signal_or_to_hear() -> None:
    one, zygote_end = await made()
    with pytest.raises(CallError, match="No kernel runs"):
        await one._save({"within": 1}, [])
    await one._signal({"signum": 2}, [])
    await one._to_kernel("shell")([b"x"])
    await one._piece({"path": "a"}, [b""])
    await one._last_save("grace")
    await one._close()
    zygote_end.close()
    assert not one.private.exists()


async def test_a_snapshot_is_received_only_under_a_name(tmp_path: Path) -> None:
    one, zygote_end = await made("none")
    for name in ("", "../a", ".a"):
        with pytest.raises(CallError, match="no name"):
            await one._receive({"root": "snapshot", "name": name, "size": 1}, [])
    await one._close()
    zygote_end.close()


async def test_a_server_that_refuses_is_told_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    one, zygote_end = await made("none")

    async def refuse(*_: Any, **__: Any) -> None:
        raise CallError("There is no such snapshot.")

    async def late(*_: Any, **__: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(one.calls, "ask", refuse)
    assert await one._asked({"ask": "fetch", "name": "a"}) == {"error": "There is no such snapshot."}
    monkeypatch.setattr(one.calls, "ask", late)
    assert await one._asked({"ask": "list"}) == {"error": "The server did not answer in time."}
    await one._close()
    zygote_end.close()


async def test_a_worker_whose_zygote_is_gone_ends() -> None:
    one, zygote_end = await made(grace=0.0)
    zygote_end.close()
    assert await one.serve() == worker.EXIT_CODES["zygote"]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def test_where_a_kernel_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    one, zygote_end = await made(directory=str(tmp_path / "gone"))
    assert one._directory("/nowhere") == str(tmp_path)
    assert one._directory("/usr") == "/usr"
    await one._close()
    zygote_end.close()


async def test_a_kernel_that_ends_before_anybody_knew_it_is_not_forgotten() -> None:
    one, zygote_end = await made()
    one._kernel_ended(4711, 1)
    assert one._starting == {4711: 1}
    await one._close()
    zygote_end.close()


def test_a_directory_of_sockets_has_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.tempfile, "gettempdir", lambda: "/x" * 60)
    place = worker.private_directory()
    assert len(str(place)) < worker.LONGEST_PATH
    assert place.stat().st_mode & 0o777 == 0o700
    place.rmdir()


async def test_who_waits_for_a_kernel_that_ends_is_told() -> None:
    async def nothing(_said: dict[str, Any]) -> dict[str, Any]:
        return {}

    one = child.Beside(nothing, lambda _: None)
    theirs = await one.open()
    waiting = asyncio.create_task(one.ask("save", SOON))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(ConnectionResetError):
        await waiting
    await one.close()


def test_a_zygote_ends_with_its_worker() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    one = zygote.Zygote(theirs)
    one.kernels[99] = 2**22 + 5
    one.run()
    theirs.close()
