"""The kernel itself: ipykernel with no TCP port, output that waits instead of being lost, and our thread beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import zmq

# debugpy listens on loopback and does not ask who connects; not found, it is not used
sys.modules["debugpy"] = None  # type: ignore[assignment]
import ipykernel.ipkernel  # noqa: E402
from ipykernel import kernelapp  # noqa: E402
from ipykernel.iostream import IOPubThread  # noqa: E402
from zmq.eventloop.zmqstream import ZMQStream  # noqa: E402

from specola_worker.kernel.state import State  # noqa: E402

del sys.modules["debugpy"]
NO_PARENT = 1
"""ipykernel's word for: nobody to watch, and no advice to print"""


class PrivateIOPubThread(IOPubThread):
    """What forked children print comes over a socket in the private directory, not over a port on loopback."""

    def _setup_pipe_in(self) -> None:
        self._pipe_uuid = os.urandom(16)
        self._pipe_address = f"ipc://{os.environ['JUPYTER_RUNTIME_DIR']}/pipe-{os.getpid()}"
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(self._pipe_address)
        self._pipe_in = ZMQStream(pipe, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[zmq.Context[Any], zmq.Socket[Any]]:
        context = zmq.Context()  # a new one: this is after the fork
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000
        pipe.connect(self._pipe_address)
        return context, pipe


class GpuKernelApp(kernelapp.IPKernelApp):
    """An IPython kernel whose output waits for a slow network."""

    def _bind_socket(self, s: Any, port: int) -> Any:
        if s.socket_type == zmq.XPUB:
            # a publisher drops what its reader has no room for; the thread that writes output can wait instead
            s.setsockopt(zmq.XPUB_NODROP, 1)
        return super()._bind_socket(s, port)


kernelapp.IOPubThread = PrivateIOPubThread


def run(order: dict[str, Any], state: int) -> int:
    """Become a kernel; returns its exit code. `order` says where and how, `state` is our socket to the worker."""
    os.environ.update(order["environment"])
    os.chdir(order["directory"])
    sys.argv = [ipykernel.ipkernel.__name__]
    app = GpuKernelApp.instance(connection_file=order["connection_file"], parent_handle=NO_PARENT)
    app.initialize([])
    beside = State(state, app.shell, Path(order["snapshots"]), home=order["home"], about=order["about"])
    beside.start()
    app.start()
    return 0
