"""The worker: kernel on one side, the user's server on the other, and what the server asks of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq.asyncio

from specola_worker.kernel import carry, child, dialling, wire
from specola_worker.kernel.calls import CallError, Calls
from specola_worker.kernel.order import PORTS, Order
from specola_worker.kernel.sockets import Sockets

LONGEST_PATH = 80
"""of a directory with sockets: the kernel of the system takes 107 bytes for the whole path"""
DRAIN_SECONDS = 5.0
LAST_SAVE_SECONDS = 30.0
TERM_SAVE_SECONDS = 4.0
SAVE_SLACK = 5.0
KILL_SECONDS = 5.0
TRAVEL_SECONDS = 600.0
"""how long a snapshot may take to come"""
SNAPSHOTS = ".local/share/specola/snapshots"
"""in a home; not below `.specola`, which facilities make a link to where only this machine's programs meet"""
EXIT_CODES = {"ended": 0, "left": 0, "grace": 3, "refused": 4, "zygote": 5, "term": 0}

log = logging.getLogger(__name__)


@dataclass
class Run:
    """One run of the kernel."""

    pid: int
    sockets: Sockets
    beside: child.Beside
    ended: asyncio.Event


def private_directory() -> Path:
    """A new directory (0700) with a short path."""
    place = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="sk-", dir=place if len(place) < LONGEST_PATH else "/tmp"))  # noqa: S108 - made 0700


class Worker:
    """Starts and restarts one kernel, and splices it to the server that it dials."""

    def __init__(self, order: Order, zygote: socket.socket) -> None:
        self.order = order
        self.private = private_directory()
        self.key = secrets.token_hex(32)
        self.context = zmq.asyncio.Context()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.nursery = child.Nursery(zygote, self._kernel_ended)
        self.runs = 0
        self.run: Run | None = None
        self._starting: dict[int, int] = {}
        self._saved_with: Run | None = None
        self._receiver: carry.Receiver | None = None
        self._brought: dict[str, carry.Entry] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        handlers = {
            "start": self._start,
            "signal": self._signal,
            "save": self._save,
            "end": self._end,
            "leave": self._leave,
            "receive": self._receive,
            "piece": self._piece,
        }
        self.calls = Calls(lambda parts: self.link.send("own", parts), handlers)
        to_kernel = {name: self._to_kernel(name) for name in wire.CHANNELS if name != "own"}
        self.link = wire.Link({"own": self.calls.deliver, **to_kernel})

    # the whole

    async def serve(self) -> int:
        """Run until the server ends it, or the grace, or a signal; the exit code of this process."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._finish, "term")
        self.link.start()
        dialler = dialling.Dialler(self.link, self.order.relay_url, self.order.secret, self.order.grace)
        about: dict[str, Any] = {
            "key": self.key,
            "home": self.order.home,
            "lease": self.order.lease,
            "gpu": self.order.gpu,
        }
        about |= {"simulated": self.order.simulated, "pid": os.getpid()}
        dialling_task = asyncio.create_task(dialler.run(self._greeted, **about))
        dialling_task.add_done_callback(lambda task: None if task.cancelled() else self._finish(task.result()))
        zygote = asyncio.create_task(self.nursery.gone.wait())
        zygote.add_done_callback(lambda _: self._finish("zygote"))
        why = await self.over
        log.info("the worker ends: %s", why)
        await self._last_save(why)
        for task in (dialling_task, zygote):
            task.cancel()
        await self._close()
        return EXIT_CODES[why]

    def _finish(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)

    def _greeted(self, _said: dict[str, Any]) -> None:
        log.info("connected to the server")

    async def _last_save(self, why: str) -> None:
        """Nobody asked for a snapshot: save what is there where it can be found again."""
        seconds = {"grace": LAST_SAVE_SECONDS, "left": LAST_SAVE_SECONDS, "term": TERM_SAVE_SECONDS}.get(why)
        if seconds and self.order.home == "shared" and self.run is not None and self.run is not self._saved_with:
            with contextlib.suppress(CallError):
                await self._save({"within": seconds}, [])

    async def _close(self) -> None:
        run = self.run
        if run is not None:
            child.send_signal(run.pid, child.KILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_SECONDS):
                    await run.ended.wait()
        self.nursery.close()
        await self.calls.close("The worker ends.")
        await self.link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.context.destroy(linger=0)
        # asked to end while it ends, it still ends well
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shutil.rmtree(self.private, ignore_errors=True)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # the kernel

    def _to_kernel(self, channel: str) -> wire.Deliver:
        async def deliver(parts: list[bytes]) -> None:
            if self.run is not None:
                await self.run.sockets.send(channel, parts)

        return deliver

    @property
    def work(self) -> Path:
        """Where a kernel works whose home is not the person's."""
        return self.private / "work"

    @property
    def snapshots(self) -> Path:
        """Where its snapshots lie: the person's home where that is shared."""
        return Path.home() / SNAPSHOTS if self.order.home == "shared" else self.private / "snapshots"

    def _directory(self, wanted: str) -> str:
        if self.order.home != "shared":
            self.work.mkdir(exist_ok=True)
            return str(self.work)
        for path in (wanted, self.order.directory):
            if path and Path(path).is_dir():
                return path
        return str(Path.home())

    async def _start(self, said: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        """Start a kernel, in place of the one before; its pid."""
        async with self._turn:
            if self.run is not None:
                child.send_signal(self.run.pid, child.KILL)
                await self.run.ended.wait()
            self.runs += 1
            prefix = str(self.private / f"k{self.runs}")
            file = self._connection_file(prefix)
            beside = child.Beside(self._asked, self._hooks)
            with await beside.open() as theirs:
                pid = await self.nursery.start(self._kernel_order(said, file), theirs)
            self.run = Run(pid, Sockets(self.context, prefix, self.link.send), beside, asyncio.Event())
            if pid in self._starting:  # it has ended already
                self._kernel_ended(pid, self._starting.pop(pid))
        return {"pid": pid}

    def _connection_file(self, prefix: str) -> Path:
        file = Path(f"{prefix}.json")
        ports = {f"{name}_port": number for number, name in enumerate(PORTS, 1)}
        file.write_text(json.dumps({"transport": "ipc", "ip": prefix, "key": self.key, **ports}))
        file.chmod(0o600)
        return file

    def _kernel_order(self, said: dict[str, Any], file: Path) -> dict[str, Any]:
        order = self.order
        given = {str(name): str(value) for name, value in said.get("environment", {}).items()}
        environment = {"JUPYTER_RUNTIME_DIR": str(self.private), "SPECOLA_GPU_LEASE": order.lease}
        return {
            "connection_file": str(file),
            "directory": self._directory(str(said.get("directory", ""))),
            "environment": given | environment,
            "snapshots": str(self.snapshots),
            "home": order.home,
            "about": {"lease": order.lease, "gpu": order.gpu, "simulated": order.simulated},
        }

    def _kernel_ended(self, pid: int, code: int) -> None:
        if self.run is None or self.run.pid != pid:
            self._starting[pid] = code
            return
        run, self.run = self.run, None
        self._begin(self._farewell(run, code))

    async def _farewell(self, run: Run, code: int) -> None:
        await run.sockets.drain(DRAIN_SECONDS)
        await run.sockets.close()
        await run.beside.close()
        run.ended.set()
        await self.calls.tell("kernel", alive=False, code=code, pid=run.pid)

    async def _signal(self, said: dict[str, Any], _: list[bytes]) -> None:
        if self.run is not None:
            child.send_signal(self.run.pid, int(said["signum"]))

    async def _end(self, _said: dict[str, Any], _: list[bytes]) -> None:
        self._finish("ended")

    async def _leave(self, _said: dict[str, Any], _: list[bytes]) -> None:
        """The server stops, and does not wait for the snapshot."""
        self._finish("left")

    # what lasts

    def _hooks(self, count: int) -> None:
        self._begin(self.calls.tell("hooks", count=count))

    async def _save(self, said: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        """Have the kernel saved `within` so many seconds; what was and what was not."""
        run = self.run
        if run is None:
            raise CallError("No kernel runs: there is nothing to save.")
        within = float(said["within"])
        try:
            limit = min(self.order.snapshot_limit, int(said.get("limit", self.order.snapshot_limit)))
            answer = await run.beside.ask("save", within + SAVE_SLACK, within=within, limit=limit)
        except (TimeoutError, ConnectionResetError) as error:
            why = "ended" if isinstance(error, ConnectionResetError) else "did not let go of Python's lock in time"
            raise CallError(f"The kernel {why}: it could not be saved.") from None
        self._saved_with = run
        if self.order.home != "shared" and self.link.connected:
            answer["failed"] += await self._send_home()
        return {key: answer[key] for key in ("names", "failed", "hooks", "size")}

    async def _send_home(self) -> list[dict[str, str]]:
        """What the person's home does not see: what has changed in the working folder, then the snapshot. CallError."""
        failed = []
        if self.order.home == "sync":
            cargo = await asyncio.to_thread(
                lambda: carry.pack(carry.changed(carry.look(self.work), self._brought), carry.LIMIT)
            )
            failed += [{"name": f"file {one['name']}", "why": one["why"]} for one in cargo.left_out]
            try:
                await self._send_folder("work", self.work, cargo.entries)
            except CallError as error:
                failed.append({"name": "working folder", "why": str(error)})
            else:
                self._brought |= {entry.path: entry for entry in cargo.entries}
        folder = self.snapshots / self.order.lease
        await self._send_folder("snapshot", folder, await asyncio.to_thread(carry.look, folder))
        return failed

    async def _send_folder(self, root: str, folder: Path, entries: list[carry.Entry]) -> None:
        await self.calls.ask("receive", root=root, name=self.order.lease, size=sum(entry.size for entry in entries))
        for entry in entries:
            for said, data in carry.pieces(folder, entry):
                await self.calls.tell("piece", data, **said)
        await self.calls.ask("received", root=root, name=self.order.lease)

    async def _receive(self, said: dict[str, Any], _: list[bytes]) -> None:
        """Get ready for a folder: the working folder, or a snapshot of the person's."""
        name = str(said["name"])
        if said["root"] == "snapshot" and (not name or "/" in name or name.startswith(".")):
            raise CallError("no name of a snapshot")
        folder = self.work if said["root"] == "work" else self.private / "snapshots" / name
        folder.mkdir(parents=True, exist_ok=True)
        self._receiver = carry.Receiver(folder, int(said["size"]))
        if said["root"] == "work":
            self._brought = self._receiver.came

    async def _piece(self, said: dict[str, Any], blobs: list[bytes]) -> None:
        if self._receiver is not None:
            await asyncio.to_thread(self._receiver.take, said, blobs[0])

    async def _asked(self, said: dict[str, Any]) -> dict[str, Any]:
        """The kernel asks for the snapshots that lie in a home it does not see, or something of the facility."""
        try:
            if said["ask"] == "api":
                question = {name: said.get(name) for name in ("method", "path", "body")}
                answer = await self.calls.ask("api", seconds=TRAVEL_SECONDS, **question)
                return {"status": answer["status"], "body": answer["body"]}
            if said["ask"] == "list":
                return await self.calls.ask("snapshots", seconds=TRAVEL_SECONDS)
            await self.calls.ask("fetch", name=said["name"], seconds=TRAVEL_SECONDS)
        except (CallError, TimeoutError) as error:
            return {"error": str(error) or "The server did not answer in time."}
        return {}


async def work(order: Order, zygote: socket.socket) -> int:
    """Serve one order."""
    worker = Worker(order, zygote)
    with contextlib.suppress(asyncio.CancelledError):
        return await worker.serve()
    return 1
