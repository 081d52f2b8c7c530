"""How jupyter-server gets a kernel that runs where the GPU is (jupyter_client 8.10, entry point `specola-gpu`).

The kernel is pending, with a reason, while the lease and its site get it ready; then it is as any other: its sockets
lie in a directory of this server, and what is written to them travels over the worker's websocket.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from jupyter_client.session import Session
from specola_worker.kernel.calls import CallError

from specola_lab.gpu.front import PORTS, PROBE
from specola_lab.gpu.half import GpuHalf
from specola_lab.gpu.lessor import OVER, Lease, LeaseError, over
from specola_lab.gpu.links import KernelLink

NOT_HERE = "The kernel Python 3 (GPU) starts in a JupyterLab that a facility has started, and nowhere else."
LEFT = "It was given up before it started."
AGAIN_SECONDS = 3.0
READY_SECONDS = 60.0
POLL_SECONDS = 0.1
PASSED_ON = ("JPY_SESSION_NAME", "TZ", "LANG")


class GpuKernelError(RuntimeError):
    """Why there is no GPU kernel, in words for the person."""


class SpecolaGpuProvisioner(KernelProvisionerBase):
    """One kernel on one lease; restarts stay within the lease."""

    link: KernelLink | None = None

    @property
    def has_process(self) -> bool:
        """Whether there is something to signal or to end."""
        return self.link is not None and self.link.state != "ended"

    def _half(self) -> GpuHalf:
        app = getattr(getattr(self.parent, "parent", None), "parent", None)
        half = getattr(getattr(app, "web_app", None), "settings", {}).get("specola_gpu")
        if half is None:
            raise GpuKernelError(NOT_HERE)
        return half

    # start

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """No command is run here."""
        return await super().pre_launch(cmd=[], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:  # noqa: ARG002 - nothing is run here
        """Wait for the worker, have it start the kernel, and wait until that answers; where its sockets are."""
        environment: dict[str, str] = kwargs.get("env", {})
        directory = str(kwargs.get("cwd") or "")
        if self.link is not None:
            await self._again(environment, directory)
            return self.connection_info
        half = self._half()
        try:
            lease = await half.leases.choose(environment.get("SPECOLA_GPU_LEASE"), half.registry.busy_leases())
            self.link = half.open(self.kernel_id, lease["id"], self.parent)
            # a shutdown asks these sockets, also of a kernel that never started
            self.parent.transport, self.parent.ip = "ipc", self.link.front.prefix
            said = await self._dialled(half, self.link)
            self._connect(self.link, str(said["key"]))
            await half.bring(self.link, directory)
            await self._begin(self.link, environment, directory)
        except (LeaseError, CallError, TimeoutError) as error:
            words = str(error) or "The kernel did not answer in time."
            await self._give_up(half, words)
            raise GpuKernelError(words) from error
        except asyncio.CancelledError:
            await self._give_up(half, LEFT)
            raise
        half.confirm(self.link)
        return self.connection_info

    async def _dialled(self, half: GpuHalf, link: KernelLink) -> dict[str, Any]:
        """Ask the service for the worker until it has dialled in; its greeting."""
        while not link.hello.done():
            if self.parent.ready.cancelled():  # how jupyter-server gives up a kernel that is pending
                raise asyncio.CancelledError
            lease = await half.ask_for_worker(link)
            if lease is not None:
                self._tell(link, lease)
            waiting = asyncio.ensure_future(half.leases.change(AGAIN_SECONDS))
            await asyncio.wait([link.hello, waiting, self.parent.ready], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if link.hello.cancelled():
            raise LeaseError(link.reason)
        return link.hello.result()

    def _tell(self, link: KernelLink, lease: Lease) -> None:
        if lease["state"] in OVER:
            raise LeaseError(over(lease))
        link.say(lease.get("reason") or "Its machine gets it ready.")
        self.parent.reason = link.reason

    def _connect(self, link: KernelLink, key: str) -> None:
        known: Any = {f"{name}_port": number for number, name in enumerate(PORTS, 1)}
        known |= {"transport": "ipc", "ip": link.front.prefix, "key": key.encode(), "signature_scheme": "hmac-sha256"}
        self.connection_info = known

    async def _begin(self, link: KernelLink, environment: dict[str, str], directory: str) -> None:
        passed = {name: environment[name] for name in PASSED_ON if name in environment}
        await link.start(passed, directory)
        session = Session(key=self.connection_info["key"])

        async def ask() -> None:
            question = session.serialize(session.msg("kernel_info_request"), ident=PROBE)
            await link.link.send("shell", question)

        await link.front.answered(ask, READY_SECONDS)
        link.ready()
        self.parent.reason = ""

    async def _again(self, environment: dict[str, str], directory: str) -> None:
        link = self.link
        if link is None or link.state == "ended":
            raise GpuKernelError(link.reason if link is not None else LEFT)
        link.front.bind()
        try:
            await self._begin(link, environment, directory)
        except (CallError, TimeoutError) as error:
            raise GpuKernelError(str(error) or "The kernel did not answer in time.") from error

    async def _give_up(self, half: GpuHalf, words: str) -> None:
        self.parent.reason = words
        self.parent.execution_state = "dead"
        if self.link is not None:
            await half.give_up(self.link, words)

    # run

    async def poll(self) -> int | None:
        """None while it runs or may come back within the grace; else its exit code."""
        if self.link is None:
            return 0
        return None if self.link.alive else (self.link.code or 0)

    async def wait(self) -> int | None:
        """Wait until it has ended."""
        while (code := await self.poll()) is None:  # noqa: ASYNC110 - as jupyter_client itself waits
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def send_signal(self, signum: int) -> None:
        """Passed on to the kernel and what it started, over there."""
        if self.link is not None and self.link.alive:
            await self.link.calls.tell("signal", signum=int(signum))

    async def kill(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - upstream's signature
        """Without asking."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - upstream's signature
        """Asked nicely."""
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002 - upstream's signature
        """With the kernel, its lease is given back; a restart keeps it."""
        if not restart and self.link is not None:
            await self._half().give_up(self.link, "It was shut down.")

    def resolve_path(self, path: str) -> str | None:
        """Only of a home that both ends see: the path itself, where it exists."""
        shared = self.link is not None and self.link.about.get("home") == "shared"
        return str(Path(path).resolve()) if shared and Path(path).exists() else None
