"""User servers as processes of this machine, each under its person's account, started by the launcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.utils import random_port
from specola.client.launcher import Alive, Launcher, LauncherError
from specola.core.accounts import Account, slug
from specola.core.errors import PublicError, Unavailable
from specola.facility.runtime import Runtime, load_runtime
from sqlalchemy.orm import object_session
from traitlets import Any as AnyTrait
from traitlets import default

from specola_spawner.gpu import NO_GPU, Leases, Slice, give_back, taken
from specola_spawner.listeners import listening_uids
from specola_spawner.offer import Offer, amounts, form, offer

LOOPBACK = "127.0.0.1"
NOT_FOR_USERS = ("CONFIGPROXY", "SUPERVISOR")
LOOK_EVERY = 0.1
PORT_TRIES = 3
STOP_GRACE = 10.0
POLL_WAIT = 5.0
REMEMBERED = 5
GIB = 1024**3


class PortTakenError(Exception):
    """Somebody else listens on the port that was chosen for a server."""


class NotStartedError(SpawnException):
    """A start that failed, with what its person is to read: the hub would print the words for its log."""

    @property
    def jupyterhub_message(self) -> str:
        """The sentence alone, as the hub's pages, its API and progress show it."""
        return str(self.message)


@cache
def _runtime() -> Runtime:
    return load_runtime()


class LauncherSpawner(Spawner):
    """Asks the launcher for everything; what it knows itself survives in the launcher's records."""

    user_options: dict[str, Any]
    runtime = AnyTrait(help="The running facility; read from the state directory when nothing is given").tag(
        config=True
    )

    @default("runtime")
    def _default_runtime(self) -> Runtime:
        return _runtime()

    @default("options_form")
    def _default_options_form(self) -> Any:
        return lambda spawner: form(spawner.offer)

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._steps: list[dict[str, Any]] = []
        self._limits: dict[str, str] = {}
        self._slice: Slice | None = None
        self._started = True
        self._cut_off = False

    @property
    def launcher(self) -> Launcher:
        """The launcher, waited for a while when it restarts."""
        return Launcher(self.runtime.layout.launcher_socket)

    @property
    def leases(self) -> Leases:
        """Whoever hands out GPU slices."""
        return Leases.of(self.runtime)

    @property
    def key(self) -> str:
        """The name of this server at the launcher."""
        names = [self.user.name, self.name] if self.name else [self.user.name]
        return ".".join(["server", *map(slug, names)])

    @property
    def offer(self) -> Offer:
        """The limits of this server, from the facility and the person's groups."""
        return offer(self.runtime.facility, [group.name for group in self.user.groups])

    def get_args(self) -> list[str]:
        """Kernels talk over sockets in a directory of their owner's: a TCP port would be open to every account.

        What the hub said about a token counts for seconds, as it does at the API and the gateway, not for five minutes.
        """
        return [*super().get_args(), "--KernelManager.transport=ipc", f"--HubOAuth.cache_max_age={REMEMBERED}"]

    def get_env(self) -> dict[str, str]:
        """The hub's variables without any of the facility's own processes; the launcher adds the account's."""
        env = {name: str(value) for name, value in super().get_env().items()}
        env = {name: value for name, value in env.items() if not name.startswith(NOT_FOR_USERS)}
        env |= {"PATH": f"{self.runtime.addresses.env}/bin:/usr/local/bin:/usr/bin:/bin", **NO_GPU}
        return env | dict(self._slice.environment) if self._slice else env

    def get_state(self) -> dict[str, Any]:
        """What is told of a server after a restart of the hub; the rest is found by its key."""
        held = self._slice.kept() if self._slice else None
        return {**super().get_state(), "limits": self._limits, "slice": held, "started": self._started}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a server that an earlier hub started."""
        super().load_state(state)
        self._limits = state.get("limits", {})
        self._slice = Slice.of(state.get("slice"))
        self._started = state.get("started", True)
        self._cut_off = not self._started

    def clear_state(self) -> None:
        """The hub calls it after each end of a server, also of one that died or never started: nothing stays held."""
        super().clear_state()
        self._started, self._cut_off = True, False
        if self._slice is not None:
            give_back(self.leases, self._slice)
            self._slice = None

    async def start(self) -> tuple[str, int]:
        """Start the server, and answer where it listens once it is certain that it is the person's own."""
        self._steps = []
        self._started, self._cut_off = False, False
        try:
            await self._take_slice()
            self._step(5, "Preparing your account and home")
            account = await self.launcher.account(self.user.name)
            # a hub that was killed while it started this server has left one whose token is not valid any more
            await self.launcher.end(self.key, grace=0)
            for _ in range(PORT_TRIES):
                try:
                    where = await self._start_on(account, random_port())
                except PortTakenError:
                    self.log.warning("The port chosen for %s was taken by another account", self._log_name)
                    await self.launcher.end(self.key, grace=0)
                    continue
                await self._is_up()
                self._started = True
                return where
            raise NotStartedError("No free port was found for your server: try again.", reason="port")
        except PublicError as error:
            raise NotStartedError(f"{error.title}. {error.detail}".strip(), reason=error.reason) from error
        except LauncherError as error:
            words = "Your server could not be started; the operator finds the reason in the hub's log."
            raise NotStartedError(words, reason="launcher", log_message=str(error)) from error

    async def _take_slice(self) -> None:
        """Redeem the grant of this start, if it has one; the hub keeps none, so none is ever tried a second time."""
        grant, spent, rest = taken(self.user_options)
        self.user_options = rest
        self._keep()
        if grant is not None:
            self._step(2, "Taking your GPU slice into the server")
            self._slice = await self.leases.redeem(grant, self.user.name, self.name)
            # a hub that is killed from here on finds the lease again, and gives it back
            self._keep()
            self._step(4, f"Your GPU slice is ready: {self._slice.text or self._slice.lease}")
        elif spent:
            self._step(2, "The GPU of your last server was granted for that start only: this one has no GPU")

    def _keep(self) -> None:
        """Have the hub write down now what it would only write down after the start."""
        if self.orm_spawner is not None:
            self.orm_spawner.user_options = self.user_options
            self.orm_spawner.state = self.get_state()
            session = object_session(self.orm_spawner)
            if session is not None:
                session.commit()

    async def _is_up(self) -> None:
        """The lease begins to count now; an answer that does not come is waited for while the server runs."""
        if self._slice is None:
            return
        self._slice = replace(self._slice, up=True)
        try:
            self._slice = await self.leases.confirm(self._slice)
        except Unavailable as error:
            self.log.warning("The lease of %s is not confirmed yet: %s", self._log_name, error)

    async def _confirm_later(self) -> None:
        held = self._slice
        if held is None or not held.up or held.confirmed or self._stop_pending:
            return
        try:
            confirmed: Slice | None = await self.leases.confirm(held)
        except Unavailable:
            return
        except PublicError as error:
            # the service has ended it, and stops the server itself
            self.log.warning("The lease of %s has ended: %s", self._log_name, error)
            confirmed = None
        if self._slice is held:
            self._slice = confirmed
            self._keep()

    async def _start_on(self, account: Account, port: int) -> tuple[str, int]:
        self.ip, self.port = LOOPBACK, port
        what = self.offer
        if what.memory_gib is not None:
            self.mem_limit = int(what.memory_gib * GIB)
        if what.cores is not None:
            self.cpu_limit = what.cores
        started = await self.launcher.start(
            self.key,
            self.user.name,
            [str(self.runtime.addresses.env / "bin" / "jupyterhub-singleuser"), *self.get_args()],
            self.get_env(),
            memory_gib=what.memory_gib,
            cores=what.cores,
        )
        self._limits = started.limits
        self._step(20, self._words(started.account, what))
        await self._listens(account, port)
        self._step(90, "JupyterLab answers, opening the way to it")
        return LOOPBACK, port

    def _words(self, account: str, what: Offer) -> str:
        words = f"Starting JupyterLab as account {account}"
        if limits := amounts(what):
            words += f" with {limits}"
        if "advisory" in self._limits.values():
            words += " (this machine cannot enforce it)"
        return words

    async def _listens(self, account: Account, port: int) -> None:
        """Wait until the server listens; raise when the listener is somebody else, or when the server ended."""
        loop = asyncio.get_running_loop()
        begun, told = loop.time(), 0
        while not (uids := listening_uids(port)):
            if (seconds := int(loop.time() - begun)) >= told + 3:
                told = seconds
                self._step(min(85, 20 + 5 * seconds), f"JupyterLab loads its parts ({seconds} s)")
            if not isinstance(await self.launcher.poll(self.key), Alive):
                await self._ended_early()
            await asyncio.sleep(LOOK_EVERY)
        if uids != {account.uid}:
            raise PortTakenError

    async def _ended_early(self) -> None:
        said = await self.launcher.log(self.key, 2000)
        words = "JupyterLab ended while it started; your operator finds its last words in the hub's log."
        raise NotStartedError(words, reason="ended", log_message=f"{self.key} ended while starting:\n{said}")

    async def poll(self) -> int | None:
        """None while the server runs, or while nobody can say: a false 'gone' would delete its route and token.

        A server whose start was cut off by the end of a hub is ended: nobody knows where it listens.
        """
        launcher = Launcher(self.runtime.layout.launcher_socket, wait=POLL_WAIT)
        try:
            state = await (launcher.end(self.key, grace=0) if self._cut_off else launcher.poll(self.key))
        except (PublicError, LauncherError) as error:
            self.log.warning("Nobody can say whether %s runs: %s", self._log_name, error)
            return None
        if isinstance(state, Alive):
            await self._confirm_later()
            return None
        return 0 if state.code is None else state.code

    async def stop(self, now: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature is JupyterHub's
        """End the server, its kernels and terminals."""
        await self.launcher.end(self.key, grace=0 if now else STOP_GRACE)

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        return lambda spawner, options: None  # noqa: ARG005 - JupyterHub's signature; `start` reads the only one

    def _step(self, progress: int, message: str) -> None:
        self._steps.append({"progress": progress, "message": message})

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What happens, in words, from the first step on; the hub ends it when the server is ready."""
        told = 0
        while True:
            for step in self._steps[told:]:
                told += 1
                yield step
            await asyncio.sleep(LOOK_EVERY)
