"""A process that has imported ipykernel and waits: a kernel is a fork of it, there in milliseconds.

It has no threads, no sockets but the one to the worker, and touches no GPU: what forks must not have begun to work.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from typing import Any

LARGEST = 64 * 1024


class Zygote:
    """Forks kernels as the worker asks, and tells it how they ended."""

    def __init__(self, worker: socket.socket) -> None:
        self.worker = worker
        self.kernels: dict[int, int] = {}
        """pidfd → pid"""
        self.poll = select.poll()
        self.poll.register(worker, select.POLLIN)

    def run(self) -> None:
        """Serve until the worker is gone; its kernels end with it."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != self.worker.fileno():
                    self._ended(descriptor)
                elif not self._asked():
                    for pid in self.kernels.values():
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(pid, signal.SIGKILL)
                    return

    def _asked(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.worker, LARGEST, 1)
        if not data:
            return False
        pid = os.fork()
        if pid == 0:
            self._become_kernel(json.loads(data), descriptors[0])
        os.close(descriptors[0])
        pidfd = os.pidfd_open(pid)
        self.kernels[pidfd] = pid
        self.poll.register(pidfd, select.POLLIN)
        self.worker.send(json.dumps({"started": pid}).encode())
        return True

    def _become_kernel(self, order: dict[str, Any], state: int) -> None:
        code = 1
        try:
            self.worker.close()
            for pidfd in self.kernels:
                os.close(pidfd)
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            from specola_worker.kernel import app

            code = app.run(order, state)
        finally:
            os._exit(code)

    def _ended(self, pidfd: int) -> None:
        self.poll.unregister(pidfd)
        os.close(pidfd)
        pid = self.kernels.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        # what the kernel started itself ends with it
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.worker.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def spawn() -> socket.socket:
    """Fork the zygote; the worker's end of the socket between them. Called before anything has started a thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        code = 1
        try:
            ours.close()
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)  # the worker decides
            from specola_worker.kernel import app  # noqa: F401 - what a kernel imports is here before it is asked for

            Zygote(theirs).run()
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return ours
