"""What a kernel worker and the server that it dialled say to each other: both ends import it.

One websocket carries six channels. Each channel is a row of numbered frames of its own, kept by the sender until the
other end has used them, so that after a new connection nothing is lost and nothing comes twice; what waits to be used
is bounded, and who would send more waits. Frames are small, and the channels take turns by urgency: an interrupt does
not queue behind an output of 50 MB.

Text frames open a connection, one from each end: `{"specola": 1, "received": [6 numbers], …}`. Binary frames follow:

`D` channel (u8) last (u8) number (u64) payload    a piece of a message; `last` closes the message
`A` 6 × u64                                         the numbers up to which each channel has been used

A message is a list of byte strings: u32 count, u64 lengths, the strings. Numbers are big-endian.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

VERSION = 1
CHANNELS = ("own", "control", "hb", "stdin", "shell", "iopub")
"""by urgency; `own` is between worker and server and never reaches a kernel"""
SCHEME = "specola-kernel"
"""of the Authorization header"""

PIECE = 128 * 1024
WINDOW = 8 * 1024**2
"""bytes of one channel that the other end has not used yet"""
LARGEST_FRAME = PIECE + 64
LARGEST_MESSAGE = 1024**3
ACK_BYTES = WINDOW // 16
ACK_FRAMES = 64
ACK_SECONDS = 0.2
ALIVE_SECONDS = 5.0
SILENT_SECONDS = 20.0
"""a connection over which nothing came for so long is given up"""
GREETING_SECONDS = 15.0
GRACE_SECONDS = 60.0

_FRAME = struct.Struct("!cBBQ")
_ACK = struct.Struct(f"!c{len(CHANNELS)}Q")

Parts = Sequence[bytes]

log = logging.getLogger(__name__)


class WireError(Exception):
    """The other end says what cannot be: the connection is closed, the numbers stay as they are."""


class Connection(Protocol):
    """One websocket, at either end."""

    def send(self, data: bytes | str) -> Awaitable[Any]:
        """Write one frame; done when it has left this process."""

    def close(self) -> None:
        """Hang up."""


def encode(parts: Parts) -> bytes:
    """A message as bytes; ValueError when it is too large for this wire."""
    lengths = [len(part) for part in parts]
    if sum(lengths) > LARGEST_MESSAGE:
        raise ValueError(f"a message of {sum(lengths)} bytes; the largest is {LARGEST_MESSAGE}")
    return b"".join([struct.pack(f"!I{len(lengths)}Q", len(lengths), *lengths), *parts])


def decode(data: bytes | bytearray) -> list[bytes]:
    """The strings of a message; WireError when it is none."""
    try:
        (count,) = struct.unpack_from("!I", data)
        lengths = struct.unpack_from(f"!{count}Q", data, 4)
    except struct.error as error:
        raise WireError("no message") from error
    start, parts = 4 + 8 * count, []
    if start + sum(lengths) != len(data):
        raise WireError("lengths do not add up")
    for length in lengths:
        parts.append(bytes(data[start : start + length]))
        start += length
    return parts


class Outbox:
    """The frames of one channel that the other end has not used yet."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._kept: deque[bytes] = deque()
        self._first = 1
        """number of the first frame kept"""
        self._next = 1
        """number of the next frame to be sent over this connection"""
        self.size = 0
        self.turn = asyncio.Lock()
        """one message after the other"""
        self.room = asyncio.Event()
        self.room.set()

    def add(self, payload: bytes | memoryview, *, last: bool) -> None:
        """Keep one more frame."""
        number = self._first + len(self._kept)
        frame = _FRAME.pack(b"D", self._channel, last, number) + bytes(payload)
        self._kept.append(frame)
        self.size += len(frame)
        if self.size >= WINDOW:
            self.room.clear()

    def take(self) -> bytes | None:
        """The next frame for this connection; None when all were sent."""
        index = self._next - self._first
        if index >= len(self._kept):
            return None
        self._next += 1
        return self._kept[index]

    def used(self, number: int) -> None:
        """Forget what the other end does not need again; WireError for a number that was never sent."""
        if number >= self._first + len(self._kept):
            raise WireError("used what was never sent")
        while self._first <= number:
            self.size -= len(self._kept.popleft())
            self._first += 1
        self._next = max(self._next, self._first)
        if self.size < WINDOW:
            self.room.set()

    def resume(self, received: int) -> None:
        """Begin over a new connection after what the other end has."""
        self.used(received)
        self._next = self._first


class Inbox:
    """What came over one channel and waits to be used."""

    def __init__(self) -> None:
        self.received = 0
        self.used = 0
        self.unsaid = 0
        """bytes used that the other end has not been told of"""
        self.told = 0
        self.waiting: asyncio.Queue[tuple[int, int, list[bytes]]] = asyncio.Queue()
        self.pending = 0
        """bytes that came and were not used yet"""
        self._open = bytearray()
        self._held = 0

    def put(self, number: int, payload: memoryview, *, last: bool) -> None:
        """Take a frame; one that was here already is dropped, one that comes too early is an error."""
        if number <= self.received:
            return
        if number != self.received + 1:
            raise WireError(f"frame {number} after {self.received}")
        if len(self._open) + len(payload) > LARGEST_MESSAGE + 1024**2:
            raise WireError("a message without end")
        if self.pending > 2 * WINDOW:
            raise WireError("more at once than was agreed")
        self.received = number
        self.pending += len(payload) + _FRAME.size
        self._open += payload
        self._held += len(payload) + _FRAME.size
        if last:
            message, self._open = self._open, bytearray()
            held, self._held = self._held, 0
            self.waiting.put_nowait((number, held, decode(message)))
        elif self._held >= ACK_BYTES:
            # the pieces of one large message must not fill the window before its end
            held, self._held = self._held, 0
            self.waiting.put_nowait((number, held, []))

    def done(self, number: int, size: int) -> bool:
        """A message was used; whether it is time to say so."""
        self.used = number
        self.unsaid += size
        self.pending -= size
        return self.unsaid >= ACK_BYTES or self.used - self.told >= ACK_FRAMES


Deliver = Callable[[list[bytes]], Awaitable[None]]


class Link:
    """Six channels that outlive their connections; `deliver` uses the messages of each."""

    def __init__(self, deliver: Mapping[str, Deliver]) -> None:
        self._deliver = deliver
        self._out = [Outbox(index) for index in range(len(CHANNELS))]
        self._in = [Inbox() for _ in CHANNELS]
        self._wake = asyncio.Event()
        self._ack = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._connection: Connection | None = None
        self._heard = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.closed = False

    @property
    def connected(self) -> bool:
        """Whether a connection stands now."""
        return self._connection is not None

    def start(self) -> None:
        """Begin to use what comes, on the running loop."""
        self._tasks = [asyncio.create_task(self._use(index)) for index in range(len(CHANNELS))]

    async def close(self) -> None:
        """End for good; who waits to send gets an error."""
        self.closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        for box in self._out:
            box.room.set()
        if self._soon is not None:
            self._soon.cancel()
        self._wake.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def greeting(self, **more: Any) -> str:
        """What this end says first over each connection."""
        return json.dumps({"specola": VERSION, "received": [box.received for box in self._in], **more})

    def greeted(self, connection: Connection, text: str) -> dict[str, Any]:
        """Take over a connection with the other end's greeting: send again what it has not got; WireError."""
        try:
            said = dict(json.loads(text))
            received = [int(number) for number in said["received"]]
            version = said["specola"]
        except (ValueError, KeyError, TypeError) as error:
            raise WireError("no greeting") from error
        if version != VERSION or len(received) != len(CHANNELS):
            raise WireError(f"this end speaks version {VERSION}, the other {version}")
        before, self._connection = self._connection, None
        if before is not None:
            before.close()
        for box, number in zip(self._out, received, strict=True):
            box.resume(number)
        self._connection = connection
        self._heard = asyncio.get_running_loop().time()
        self._wake.set()
        return said

    async def send(self, channel: str, parts: Parts) -> None:
        """Send a message; waits while the other end is too far behind, also across a new connection."""
        box = self._out[CHANNELS.index(channel)]
        data = encode(parts)
        if len(data) <= PIECE and box.room.is_set() and not box.turn.locked() and not self.closed:
            box.add(data, last=True)
            self._wake.set()
        else:
            # who gives up waiting must not leave half a message
            await asyncio.shield(asyncio.ensure_future(self._send(box, memoryview(data))))

    async def _send(self, box: Outbox, data: memoryview) -> None:
        async with box.turn:
            for start in range(0, len(data), PIECE):
                await box.room.wait()
                if self.closed:
                    raise WireError("this link has ended")
                box.add(data[start : start + PIECE], last=start + PIECE >= len(data))
                self._wake.set()

    async def run(self, connection: Connection) -> None:
        """Send over a connection that was greeted over, until it fails or another one has taken over."""
        tasks = [asyncio.create_task(one(connection)) for one in (self._write, self._tell, self._watch)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.lost(connection)
            connection.close()

    def lost(self, connection: Connection) -> None:
        """A connection is over: what is not acknowledged is kept for the next one."""
        if self._connection is connection:
            self._connection = None
            self._wake.set()
            self._ack.set()

    def feed(self, connection: Connection, data: bytes) -> None:
        """Take a binary frame; WireError when it is none of this wire."""
        if self._connection is not connection:
            return
        self._heard = asyncio.get_running_loop().time()
        try:
            if data[:1] == b"A":
                for box, number in zip(self._out, _ACK.unpack(data)[1:], strict=True):
                    box.used(number)
                return
            kind, channel, last, number = _FRAME.unpack_from(data)
        except struct.error as error:
            raise WireError("no frame") from error
        if kind != b"D" or channel >= len(CHANNELS) or len(data) > LARGEST_FRAME:
            raise WireError("no frame")
        self._in[channel].put(number, memoryview(data)[_FRAME.size :], last=bool(last))

    async def _use(self, index: int) -> None:
        box, deliver = self._in[index], self._deliver[CHANNELS[index]]
        while True:
            number, size, parts = await box.waiting.get()
            try:
                if parts:
                    await deliver(parts)
            except Exception:
                log.exception("a message on %s could not be used", CHANNELS[index])
            if box.done(number, size):
                self._ack.set()
            elif self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(ACK_SECONDS, self._tell_soon)

    def _tell_soon(self) -> None:
        self._soon = None
        self._ack.set()

    def _pending(self) -> bytes | None:
        for box in self._out:
            frame = box.take()
            if frame is not None:
                return frame
        return None

    async def _write(self, connection: Connection) -> None:
        while self._connection is connection:
            frame = self._pending()
            if frame is None:
                self._wake.clear()
                await self._wake.wait()
            else:
                await connection.send(frame)

    async def _tell(self, connection: Connection) -> None:
        """Say what was used: at once when it is much, a little later when it is little, and always now and then."""
        while self._connection is connection:
            numbers = [box.used for box in self._in]
            for box, number in zip(self._in, numbers, strict=True):
                box.told, box.unsaid = number, 0
            await connection.send(_ACK.pack(b"A", *numbers))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ack.wait(), ALIVE_SECONDS)
            self._ack.clear()

    async def _watch(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while self._connection is connection and loop.time() - self._heard < SILENT_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(ALIVE_SECONDS)
