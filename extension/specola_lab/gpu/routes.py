"""`specola/gpu/…`: which kernel belongs to which lease, what was saved, and what a folder would lose on its way."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from specola_worker.kernel import carry
from tornado import web

from specola_lab.base import SpecolaHandler
from specola_lab.gpu import shelf
from specola_lab.gpu.dialled import DialledHandler
from specola_lab.gpu.half import GpuHalf

NONE_SUCH = "There is no such snapshot"
MOST_NAMED = 50


class HalfHandler(SpecolaHandler):
    """Knows this server's half."""

    def initialize(self, half: GpuHalf) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize()
        self.half = half


class KernelsHandler(HalfHandler):
    """GPU kernels of this server, the ended ones of the last hour among them."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Their leases, states and reasons."""
        items = [link.describe() for link in self.half.registry.links.values()]
        self.finish(json.dumps({"items": items}))


class SnapshotsHandler(HalfHandler):
    """What was saved of GPU kernels."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Manifests, newest first."""
        items = await asyncio.to_thread(shelf.listing, self.half.snapshots)
        self.finish(json.dumps({"items": items}))


class SnapshotHandler(HalfHandler):
    """One snapshot."""

    @web.authenticated
    @authorized
    async def delete(self, name: str) -> None:
        """Forget it."""
        directory = shelf.find(self.half.snapshots, name)
        if directory is None:
            self.problem(404, NONE_SUCH)
            return
        await asyncio.to_thread(shutil.rmtree, directory)
        self.set_status(204)
        self.finish()


class RestoreHandler(HalfHandler):
    """Puts a snapshot into a kernel: the cell that does it, run there."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        """Body `{"kernel_id"}`; answers `{"code"}`, the cell to run: its outcome shows where the person is."""
        directory = shelf.find(self.half.snapshots, name)
        if directory is None:
            self.problem(404, NONE_SUCH)
            return
        body: dict[str, Any] = self.get_json_body() or {}
        link = self.half.registry.links.get(str(body.get("kernel_id", "")))
        if link is None or link.state != "ready":
            self.problem(409, "That is no GPU kernel that is ready", "Start one first: it is restored there.")
            return
        self.finish(json.dumps({"code": f"from specola_lab import gpu\ngpu.restore({name!r})"}))


class FolderHandler(HalfHandler):
    """What of a folder would travel to a kernel that does not see the home."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """`?path=` below the home: files and bytes that go, and the first of those that do not."""
        cargo = await asyncio.to_thread(self._look, self.get_argument("path", ""))
        if cargo is None:
            self.problem(404, "There is no such folder")
            return
        self.finish(
            json.dumps(
                {
                    "files": len(cargo.entries),
                    "bytes": cargo.size,
                    "limit": carry.LIMIT,
                    "left_out": cargo.left_out[:MOST_NAMED],
                    "left_out_files": len(cargo.left_out),
                }
            )
        )

    def _look(self, path: str) -> carry.Cargo | None:
        root = Path(self.half.root).resolve()
        folder = (root / path).resolve()
        if not folder.is_relative_to(root) or not folder.is_dir():
            return None
        return carry.pack(carry.look(folder), carry.LIMIT)


def handlers(half: GpuHalf) -> list[tuple[str, Any, dict[str, Any]]]:
    """Addresses below the server's base URL."""
    mine = {"half": half}
    return [
        (r"specola/gpu/relay/([0-9a-f-]{8,64})", DialledHandler, {"registry": half.registry}),
        (r"specola/gpu/kernels", KernelsHandler, mine),
        (r"specola/gpu/folder", FolderHandler, mine),
        (r"specola/gpu/snapshots", SnapshotsHandler, mine),
        (r"specola/gpu/snapshots/([^/]+)", SnapshotHandler, mine),
        (r"specola/gpu/snapshots/([^/]+)/restore", RestoreHandler, mine),
    ]
