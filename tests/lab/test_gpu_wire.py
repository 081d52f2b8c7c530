# ruff: noqa: ASYNC110 - a test waits for what it sees, and may read a file
"""The wire between a GPU kernel and its server: what passes once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from specola_worker.kernel import calls, wire


class End:
    """One end of a connection in memory, which may break after so many frames."""

    def __init__(self, breaks: int | None = None) -> None:
        self.other: End
        self.link: wire.Link
        self.breaks = breaks
        self.closed = False

    async def send(self, data: bytes | str) -> None:
        await asyncio.sleep(0)
        if self.closed or self.breaks == 0:
            self.close()
            raise OSError
        if self.breaks is not None:
            self.breaks -= 1
        assert isinstance(data, bytes)
        self.other.link.feed(self.other, data)

    def close(self) -> None:
        for end in (self, self.other):
            end.closed = True
            end.link.lost(end)


def connect(a: wire.Link, b: wire.Link, breaks: tuple[int | None, int | None] = (None, None)) -> tuple[End, End]:
    left, right = End(breaks[0]), End(breaks[1])
    left.other, right.other, left.link, right.link = right, left, a, b
    from_a, from_b = a.greeting(), b.greeting()
    a.greeted(left, from_b)
    b.greeted(right, from_a)
    return left, right


async def linked(got: dict[str, list[list[bytes]]], *, slowly: bool = False) -> wire.Link:
    async def deliver(channel: str, parts: list[bytes]) -> None:
        if slowly:
            await asyncio.sleep(0.001)
        got.setdefault(channel, []).append(parts)

    link = wire.Link({name: lambda parts, name=name: deliver(name, parts) for name in wire.CHANNELS})
    link.start()
    return link


def some_messages(seed: int, count: int) -> list[tuple[str, list[bytes]]]:
    choose = random.Random(seed)
    sizes = [0, 1, 200, wire.PIECE - 20, wire.PIECE, wire.PIECE + 1, 3 * wire.PIECE]
    return [
        (choose.choice(wire.CHANNELS), [b"%d" % number, choose.randbytes(choose.choice(sizes))])
        for number in range(count)
    ]


def by_channel(messages: list[tuple[str, list[bytes]]]) -> dict[str, list[list[bytes]]]:
    sorted_out: dict[str, list[list[bytes]]] = {}
    for channel, parts in messages:
        sorted_out.setdefault(channel, []).append(parts)
    return sorted_out


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_sent_comes_once_and_in_order_over_any_number_of_connections(seed: int) -> None:
    choose = random.Random(seed)
    got_a: dict[str, list[list[bytes]]] = {}
    got_b: dict[str, list[list[bytes]]] = {}
    a, b = await linked(got_a), await linked(got_b)
    to_b, to_a = some_messages(seed, 150), some_messages(seed + 100, 150)

    async def send_all(link: wire.Link, messages: list[tuple[str, list[bytes]]]) -> None:
        for channel, parts in messages:
            await link.send(channel, parts)

    sending = asyncio.gather(send_all(a, to_b), send_all(b, to_a))
    wanted = by_channel(to_a), by_channel(to_b)
    connections = 0
    while (got_a, got_b) != wanted:
        breaks = (choose.choice([1, 7, 40]), choose.choice([1, 7, 40])) if connections < 40 else (None, None)
        left, right = connect(a, b, breaks)
        connections += 1
        runs = [asyncio.create_task(a.run(left)), asyncio.create_task(b.run(right))]
        while not left.closed and (got_a, got_b) != wanted:
            await asyncio.sleep(0.001)
        left.close()
        await asyncio.gather(*runs)
    await sending
    assert connections > 5
    await asyncio.gather(a.close(), b.close())


async def test_who_sends_more_than_the_other_end_uses_waits_and_memory_stays_bounded() -> None:
    got: dict[str, list[list[bytes]]] = {}
    a, b = await linked({}), await linked(got)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for _ in range(64):
            await a.send("iopub", [bytes(1024**2)])
            sent += 1

    flooding = asyncio.create_task(flood())
    for _ in range(100):
        await asyncio.sleep(0)
    assert sent * 1024**2 <= wire.WINDOW
    # an interrupt does not wait behind it
    await a.send("control", [b"interrupt"])
    left, right = connect(a, b)
    runs = [asyncio.create_task(a.run(left)), asyncio.create_task(b.run(right))]
    async with asyncio.timeout(60):
        while "control" not in got:
            await asyncio.sleep(0)
        assert len(got.get("iopub", [])) < 64
        await flooding
        while len(got["iopub"]) < 64:
            await asyncio.sleep(0.001)
    left.close()
    await asyncio.gather(*runs, a.close(), b.close())


async def test_a_message_larger_than_the_window_passes() -> None:
    got: dict[str, list[list[bytes]]] = {}
    a, b = await linked({}), await linked(got)
    left, right = connect(a, b)
    runs = [asyncio.create_task(a.run(left)), asyncio.create_task(b.run(right))]
    large = random.Random(1).randbytes(2 * wire.WINDOW + 17)
    async with asyncio.timeout(60):
        await a.send("shell", [b"before", large, b""])
        while "shell" not in got:
            await asyncio.sleep(0.001)
    assert got == {"shell": [[b"before", large, b""]]}
    left.close()
    await asyncio.gather(*runs, a.close(), b.close())


async def test_who_gives_up_waiting_leaves_no_half_message() -> None:
    got: dict[str, list[list[bytes]]] = {}
    a, b = await linked({}), await linked(got)
    waiting = asyncio.create_task(a.send("iopub", [bytes(2 * wire.WINDOW)]))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    after = asyncio.create_task(a.send("iopub", [b"after"]))
    left, right = connect(a, b)
    runs = [asyncio.create_task(a.run(left)), asyncio.create_task(b.run(right))]
    async with asyncio.timeout(60):
        await after
        while len(got.get("iopub", [])) < 2:
            await asyncio.sleep(0.001)
    assert got["iopub"][1] == [b"after"]
    left.close()
    await asyncio.gather(*runs, a.close(), b.close())


async def test_a_link_that_has_ended_refuses_what_is_sent() -> None:
    link = await linked({})
    waiting = asyncio.create_task(link.send("iopub", [bytes(2 * wire.WINDOW)]))
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(wire.WireError):
        await waiting
    with pytest.raises(wire.WireError):
        await link.send("shell", [b"x"])


async def test_a_new_connection_takes_over_from_one_that_hangs() -> None:
    got: dict[str, list[list[bytes]]] = {}
    a, b = await linked({}), await linked(got)
    old, _ = connect(a, b)
    hanging = asyncio.create_task(a.run(old))
    left, right = connect(a, b)
    runs = [asyncio.create_task(a.run(left)), asyncio.create_task(b.run(right))]
    await a.send("stdin", [b"x"])
    async with asyncio.timeout(60):
        while "stdin" not in got:
            await asyncio.sleep(0.001)
        await hanging
    # what the old one still says does not count
    b.feed(old, b"nonsense")
    left.close()
    await asyncio.gather(*runs, a.close(), b.close())


async def test_silence_ends_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(wire, "ALIVE_SECONDS", 0.02)
    a, b = await linked({}), await linked({})
    left, _ = connect(a, b)
    async with asyncio.timeout(60):
        await a.run(left)
    assert not a.connected
    await asyncio.gather(a.close(), b.close())


FRAMES = {
    "empty": b"",
    "short": b"D\x01",
    "another kind": b"X" + bytes(10),
    "no such channel": b"D" + bytes([9, 1]) + (1).to_bytes(8, "big"),
    "too early": b"D" + bytes([0, 1]) + (2).to_bytes(8, "big"),
    "too large": b"D" + bytes([0, 0]) + (1).to_bytes(8, "big") + bytes(wire.LARGEST_FRAME),
    "no message": b"D" + bytes([0, 1]) + (1).to_bytes(8, "big") + b"xx",
    "lengths that do not add up": b"D"
    + bytes([0, 1])
    + (1).to_bytes(8, "big")
    + (1).to_bytes(4, "big")
    + bytes(7)
    + b"\x09",
    "an acknowledgement of nothing": b"A" + (5).to_bytes(8, "big") * len(wire.CHANNELS),
    "a short acknowledgement": b"A" + bytes(3),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
async def test_a_frame_that_is_none_is_an_error(frame: bytes) -> None:
    a, b = await linked({}), await linked({})
    left, _ = connect(a, b)
    with pytest.raises(wire.WireError):
        a.feed(left, frame)
    await asyncio.gather(a.close(), b.close())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"specola": 2, "received": [0,0,0,0,0,0]}', '{"specola": 1, "received": [1]}']
)
async def test_a_greeting_that_is_none_is_an_error(text: str) -> None:
    a, b = await linked({}), await linked({})
    left, _ = connect(a, b)
    with pytest.raises(wire.WireError):
        a.greeted(left, text)
    await asyncio.gather(a.close(), b.close())


async def test_a_message_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST_MESSAGE", 10)
    with pytest.raises(ValueError, match="largest"):
        wire.encode([bytes(11)])
    box = wire.Inbox()
    with pytest.raises(wire.WireError):
        box.put(1, memoryview(bytes(1024**2 + 11)), last=False)


async def test_who_sends_on_without_waiting_for_room_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WINDOW", 1000)
    box, message = wire.Inbox(), memoryview(wire.encode([bytes(100)]))
    while box.pending <= 2000:
        box.put(box.received + 1, message, last=True)
    with pytest.raises(wire.WireError, match="agreed"):
        box.put(box.received + 1, message, last=True)
    assert box.pending < 3000
    while not box.waiting.empty():
        number, size, _ = box.waiting.get_nowait()
        box.done(number, size)
    assert box.pending == 0
    box.put(box.received + 1, message, last=True)


async def test_a_message_that_cannot_be_used_does_not_stop_the_next(caplog: pytest.LogCaptureFixture) -> None:
    got: list[bytes] = []

    async def deliver(parts: list[bytes]) -> None:
        if parts == [b"bad"]:
            raise RuntimeError
        got.extend(parts)

    a, b = await linked({}), wire.Link(dict.fromkeys(wire.CHANNELS, deliver))
    b.start()
    left, right = connect(a, b)
    runs = [asyncio.create_task(a.run(left)), asyncio.create_task(b.run(right))]
    await a.send("hb", [b"bad"])
    await a.send("hb", [b"good"])
    async with asyncio.timeout(60):
        while not got:
            await asyncio.sleep(0.001)
    assert "could not be used" in caplog.text
    left.close()
    await asyncio.gather(*runs, a.close(), b.close())


# questions and answers


def conversation(handlers: dict[str, calls.Handler]) -> tuple[calls.Calls, calls.Calls]:
    asking = calls.Calls(lambda parts: answering.deliver(list(parts)), {})
    answering = calls.Calls(lambda parts: asking.deliver(list(parts)), handlers)
    return asking, answering


async def test_a_question_gets_its_answer_or_the_reason_why_not() -> None:
    async def double(said: calls.Fields, blobs: list[bytes]) -> calls.Fields:
        return {"twice": 2 * said["number"], "bytes": len(blobs[0])}

    async def refuse(_said: calls.Fields, _: list[bytes]) -> None:
        raise calls.CallError("The disk is full.")

    async def fail(_said: calls.Fields, _: list[bytes]) -> None:
        raise RuntimeError("a path that nobody should read")

    asking, answering = conversation({"double": double, "refuse": refuse, "fail": fail})
    assert (await asking.ask("double", b"xyz", number=4))["twice"] == 8
    for do, words in {
        "refuse": "The disk is full.",
        "fail": "fail failed: RuntimeError",
        "?": "different versions",
    }.items():
        with pytest.raises(calls.CallError, match=words):
            await asking.ask(do)
    await asking.tell("double", b"", number=1)
    await asking.deliver([json.dumps({"answer": 99}).encode()])
    await answering.close("over")


async def test_who_still_waits_when_the_other_end_goes_is_told() -> None:
    async def never(_said: calls.Fields, _: list[bytes]) -> None:
        await asyncio.Event().wait()

    asking, answering = conversation({"never": never})
    with pytest.raises(TimeoutError):
        await asking.ask("never", seconds=0.01)
    waiting = asyncio.create_task(asking.ask("never"))
    await asyncio.sleep(0)
    await asking.close("The machine is gone.")
    with pytest.raises(calls.CallError, match="The machine is gone"):
        await waiting
    await answering.close("")
