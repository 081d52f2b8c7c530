"""What travels between this home and a kernel that does not see it: the working folder, and snapshots."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specola_worker.kernel import carry
from specola_worker.kernel.calls import CallError, Calls, Fields, Handler

from specola_lab.gpu import shelf

MIB = 1024**2
SNAPSHOT_LIMIT = 512 * MIB
"""of the variables in a snapshot that travels"""
HOOKS_LIMIT = 2048 * MIB
"""of a snapshot with what checkpoints wrote"""


class Travel:
    """The folders of the kernel of one lease; `place` is where snapshots lie in the home."""

    def __init__(self, place: Path, lease: str) -> None:
        self._place = place
        self._lease = lease
        self._work: Path | None = None
        self._known: dict[str, carry.Entry] = {}
        self._receiver: carry.Receiver | None = None
        self._trouble = ""
        """why what is on its way did not come whole"""
        self.calls: Calls
        self.left_out: list[dict[str, str]] = []
        self.beside: list[str] = []
        """files that had changed at both ends, under the names that those of the kernel got"""

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What the worker may ask."""
        return {
            "snapshots": self._list,
            "fetch": self._fetch,
            "receive": self._receive,
            "piece": self._piece,
            "received": self._received,
        }

    async def bring(self, folder: Path) -> None:
        """Send the working folder, as much of it as fits; CallError."""
        self._work = folder
        cargo = await asyncio.to_thread(lambda: carry.pack(carry.look(folder), carry.LIMIT))
        self.left_out = cargo.left_out
        self._known = {entry.path: entry for entry in cargo.entries}
        await self._send("work", "", folder, cargo.entries)

    async def _send(self, root: str, name: str, folder: Path, entries: list[carry.Entry]) -> None:
        await self.calls.ask("receive", root=root, name=name, size=sum(entry.size for entry in entries))
        for entry in entries:
            for said, data in carry.pieces(folder, entry):
                await self.calls.tell("piece", data, **said)

    async def _list(self, _said: Fields, _: list[bytes]) -> Fields:
        return {"snapshots": await asyncio.to_thread(shelf.listing, self._place)}

    async def _fetch(self, said: Fields, _: list[bytes]) -> None:
        directory = shelf.find(self._place, str(said["name"]))
        if directory is None:
            raise CallError("There is no such snapshot.")
        await self._send("snapshot", directory.name, directory, await asyncio.to_thread(carry.look, directory))

    def _aside(self, name: str) -> Path:
        if not shelf.NAME.fullmatch(name):
            raise CallError("That is no name of a snapshot.")
        if name != self._lease:
            raise CallError("A kernel sends its own snapshot, and replaces no other.")
        return self._place / f".{name}.partial"

    async def _receive(self, said: Fields, _: list[bytes]) -> None:
        size, self._trouble = int(said["size"]), ""
        if said["root"] == "work":
            if self._work is None or size > carry.LIMIT:
                raise CallError(f"What has changed is {size / MIB:.0f} MiB; {carry.LIMIT // MIB} may travel.")
            self._receiver = carry.Receiver(self._work, carry.LIMIT, self._known)
            return
        if size > HOOKS_LIMIT:
            raise CallError(f"The snapshot is {size / MIB:.0f} MiB; {HOOKS_LIMIT // MIB} may travel.")
        aside = self._aside(str(said["name"]))
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
        aside.mkdir(mode=0o700, parents=True)
        self._receiver = carry.Receiver(aside, HOOKS_LIMIT)

    async def _piece(self, said: dict[str, Any], blobs: list[bytes]) -> None:
        if self._receiver is None:
            return
        try:
            await asyncio.to_thread(self._receiver.take, said, blobs[0])
        except Exception as error:
            # nobody waits for the answer to a piece: it is told at the end
            self._trouble = self._trouble or getattr(error, "strerror", "") or str(error)
            raise

    async def _received(self, said: Fields, _: list[bytes]) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            raise CallError("Nothing was on its way.")
        receiver.close()
        whole = not self._trouble
        if said["root"] == "work":
            self._known |= receiver.came
            self.beside += receiver.beside
        else:
            name = str(said["name"])
            aside = self._aside(name)
            whole = whole and (aside / shelf.MANIFEST).is_file()
            if whole:
                await asyncio.to_thread(shelf.put, aside, self._place / name)
            else:
                await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
        if not whole:
            raise CallError(f"It did not come whole: {self._trouble or 'parts are missing'}.")
