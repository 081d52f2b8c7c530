"""GPUs of the facility from a notebook cell.

    from specola_lab import gpu

    gpu.request(gib=16, hours=2)    # ask; shows itself live: place in the queue, time left, renew, give back
    gpu.offers()                    # what is free
    gpu.leases(), gpu.renew(), gpu.release()
    gpu.checkpoint(save, load)      # in a GPU kernel: run before its lease ends, and when it is restored
    gpu.snapshots()                 # what was saved of earlier GPU kernels
    gpu.restore()                   # get the newest back

A GPU kernel runs for as long as its lease. Before a lease ends, for whatever reason, the functions registered here are
called, also while a cell is still running (in a thread of their own); then that cell is interrupted and the variables
are saved as far as they can be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from specola_lab._api import GpuError
from specola_lab.gpu.client import leases, offers, release, renew, request

__all__ = [
    "GpuError",
    "checkpoint",
    "leases",
    "offers",
    "release",
    "renew",
    "request",
    "restore",
    "snapshots",
]


def _state() -> Any:
    module = sys.modules.get("specola_worker.kernel.state")
    state = getattr(module, "current", None)
    if state is None:
        raise GpuError("This is no GPU kernel", 'Ask for a GPU in the panel, and choose the kernel "Python 3 (GPU)".')
    return state


def checkpoint(save: Callable[..., Any], load: Callable[..., Any] | None = None, *, name: str = "") -> None:
    """Call `save` before this kernel's lease ends, and `load` when it is restored in another kernel.

    Both may take a directory (`pathlib.Path`) of their own to write to and read from. `save` runs in a thread, also
    while a cell is running, and has less than a minute together with everything else. Registered again under the same
    name (by default that of the function) it replaces what was registered before. A kernel with a checkpoint counts
    as idle once its GPU has been quiet for long enough, even while a cell waits.
    """
    _state().checkpoint(save, load, name or getattr(save, "__qualname__", "checkpoint"))


def snapshots() -> list[dict[str, Any]]:
    """What was saved of earlier GPU kernels, newest first: `name`, `created`, `names`, `failed`, `hooks`, `size`."""
    found: list[dict[str, Any]] = _state().snapshots()
    return found


def restore(name: str | None = None) -> Any:
    """Put the variables of the newest snapshot, or of the named one, into this kernel, then call the `load` functions.

    The answer shows what came back and what did not. LookupError when there is no such snapshot.
    """
    return _state().restore(name)
