"""Puts the GPU half into jupyter-server."""

from __future__ import annotations

from typing import Any

from jupyter_core.utils import ensure_async
from tornado.ioloop import IOLoop

from specola_lab.facility import Facility
from specola_lab.gpu import routes
from specola_lab.gpu.half import GpuHalf
from specola_lab.gpu.lessor import Leases
from specola_lab.gpu.notebook import OnGrant
from specola_lab.gpu.watcher import Watcher


def load(app: Any, facility: Facility) -> list[tuple[str, Any, dict[str, Any]]]:
    """Make the half, start its watcher where a facility stands behind this server; its addresses."""
    home = facility.settings.home
    half = GpuHalf(Leases(facility), home, app.root_dir, app.web_app.settings["base_url"], app.log)
    app.web_app.settings["specola_gpu"] = half
    if facility.settings.is_complete:
        watcher = Watcher(half, OnGrant(half, app, app.log), app.log)
        app.web_app.settings["specola_gpu_watcher"] = watcher
        IOLoop.current().add_callback(watcher.start)
    _save_before_the_end(app.kernel_manager, half)
    return routes.handlers(half)


def _save_before_the_end(kernels: Any, half: GpuHalf) -> None:
    """A server that is stopped shuts all kernels down: GPU kernels are saved first, as before every end of a lease."""
    shut_down = kernels.shutdown_all

    async def shutdown_all(now: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature is jupyter_client's
        await half.leave()
        await ensure_async(shut_down(now=now))

    kernels.shutdown_all = shutdown_all
