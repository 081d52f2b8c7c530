"""What is done when a lease is granted: a kernel is started, or a notebook is run to its end."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from specola_lab.gpu.half import GpuHalf
from specola_lab.gpu.lessor import Lease, LeaseError

KERNEL = "specola-gpu"


class OnGrant:
    """Starts kernels in this server as a browser would."""

    def __init__(self, half: GpuHalf, app: Any, log: logging.Logger) -> None:
        self.half = half
        self.app = app
        self.log = log

    async def __call__(self, lease: Lease) -> None:
        """Do what the lease's request said; what goes wrong is told in the log and by the kernel's reason."""
        try:
            if lease["on_grant"] == "notebook":
                try:
                    await self._notebook(lease)
                finally:
                    await self._release(lease)
            else:
                await self._kernel(lease, "")
        except Exception:
            self.log.exception("what was to be done when lease %s was granted failed", lease["id"])

    async def _kernel(self, lease: Lease, path: str) -> Any:
        """Start a kernel for the lease; jupyter-server's manager of it, once it is ready."""
        kernels = self.app.kernel_manager
        environment = {**os.environ, "SPECOLA_GPU_LEASE": lease["id"]}
        name = await kernels.start_kernel(kernel_name=KERNEL, path=path, env=environment)
        manager = kernels.get_kernel(name)
        await manager.ready
        return manager

    async def _notebook(self, lease: Lease) -> None:
        """Run a notebook from its first cell to its last, and keep its outputs in place."""
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

        path = self._inside(str(lease["notebook"]))
        session = self.app.session_manager
        manager = await self._kernel(lease, str(Path(lease["notebook"]).parent))
        await session.create_session(
            path=lease["notebook"], name=path.name, type="notebook", kernel_id=manager.kernel_id
        )
        notebook = await asyncio.to_thread(nbformat.read, path, 4)
        client = NotebookClient(notebook, km=manager, timeout=None, resources={})

        async def keep(**_: Any) -> None:
            await asyncio.to_thread(_write, notebook, path)

        client.on_cell_executed = keep
        try:
            await client.async_execute(cleanup_kc=True)
        except CellExecutionError as error:
            self.log.info("notebook %s stopped at an error: %s", lease["notebook"], error.ename)
        finally:
            await keep()

    async def _release(self, lease: Lease) -> None:
        try:
            await self.half.leases.release(lease["id"])
        except LeaseError as error:
            self.log.warning("lease %s could not be given back: %s", lease["id"], error)

    def _inside(self, path: str) -> Path:
        root = Path(self.app.root_dir).resolve()
        found = (root / path).resolve()
        if not found.is_relative_to(root) or not found.is_file():
            raise LeaseError(f"There is no notebook {path!r} in your home.")
        return found


def _write(notebook: Any, path: Path) -> None:
    import nbformat

    aside = path.with_name(f".{path.name}.running")
    aside.write_text(nbformat.writes(notebook))  # type: ignore[no-untyped-call]
    aside.chmod(path.stat().st_mode)
    aside.replace(path)
