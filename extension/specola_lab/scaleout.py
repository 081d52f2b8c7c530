"""Dask clusters of the facility from a notebook cell or a script.

    from specola_lab import scaleout

    cluster = scaleout.cluster(workers=4)
    client = cluster.get_client()
    client.map(...)
    cluster.stop()

A cluster lives on its own: it outlasts the kernel that made it and ends with `stop()`, at the end of a
`with` block, by the panel's Stop button, or after the facility's idle time. `scaleout.connect(name)` finds it
again. The connection goes straight to the scheduler where that can be reached, else through the gateway.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from dask_gateway import GatewayCluster
from distributed.core import rpc

from specola_lab import _cards
from specola_lab._api import Api, ScaleoutError

__all__ = ["Cluster", "ScaleoutError", "cluster", "connect", "list", "sites"]

DIAL_SECONDS = 10
REFRESH_SECONDS = 2.0
START_SECONDS = 300
_builtin_list = list


class Cluster(GatewayCluster):
    """A running Dask cluster; shows itself with live numbers when it is the last line of a cell."""

    @property
    def client(self) -> Any:
        """The `distributed.Client` of this cluster, made at the first use."""
        made = self.__dict__.get("_client")
        if made is None or made.status == "closed":
            made = self.get_client()
            self.__dict__["_client"] = made
        return made

    status: str

    async def _start_async(self) -> None:
        """As upstream for a cluster that exists, but trying the scheduler's own address first."""
        if self.status in ("closing", "closed"):
            return
        report = await self.gateway._wait_for_start(self.name)  # noqa: SLF001 - upstream offers no other
        self.security = report.security
        own = (report.options.get("specola") or {}).get("address")
        self.scheduler_address = report.scheduler_address
        if own and await self._answers(own):
            self.scheduler_address = own
        self.dashboard_link = _cards.dashboard(self.name)
        await self._init_internals()
        self.status = "running"

    async def _answers(self, address: str) -> bool:
        there = rpc(address, connection_args=self.security.get_connection_args("client"), timeout=DIAL_SECONDS)
        try:
            await asyncio.wait_for(there.identity(), DIAL_SECONDS)
        except (OSError, TimeoutError):
            return False
        finally:
            await there.close_rpc()
        return True

    def scale(self, n: int, **_: Any) -> None:
        """Ask for `n` workers; ScaleoutError says what your groups allow when that is too many."""
        Api().post(f"scaleout/clusters/{self.name}/scale", {"workers": n})

    def adapt(self, minimum: int = 0, maximum: int | None = None, active: bool = True, **_: Any) -> None:  # noqa: FBT001, FBT002 - upstream's signature
        """Follow the work between two numbers of workers; `active=False` keeps the present number."""
        if not active:
            self.scale(len(self.scheduler_info.get("workers", {})))
            return
        most = maximum if maximum is not None else max(site["max_workers"] for site in sites())
        Api().post(f"scaleout/clusters/{self.name}/scale", {"minimum": minimum, "maximum": most})

    def wait(self, n: int | None = None, timeout: float = START_SECONDS) -> Self:
        """Wait until `n` workers are there (default: all that are wanted); the cluster, for chaining."""
        wanted = self.describe()["workers"]["wanted"] if n is None else n
        if wanted:
            self.client.wait_for_workers(wanted, timeout=timeout)
        return self

    def describe(self) -> dict[str, Any]:
        """What the facility says about this cluster: status, reason, workers, adaptive, site."""
        return Api().get(f"scaleout/clusters/{self.name}")

    def close(self, shutdown: bool | None = None) -> None:  # noqa: FBT001 - upstream's signature
        """Let go of the connection; the cluster itself goes on unless `shutdown`."""
        super().close(shutdown)
        # upstream's Gateway.__del__ would stop its loop a second time, and write that into the notebook
        self.gateway.__dict__.pop("_loop_runner", None)

    def stop(self) -> None:
        """End the cluster; results that only its workers hold are lost. Twice is no error."""
        try:
            Api().delete(f"scaleout/clusters/{self.name}")
        except ScaleoutError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        self.close(shutdown=False)

    shutdown = stop

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        workers = len(self.scheduler_info.get("workers", {}))
        return f"<Cluster {self.name}: {self.status}, {workers} workers>"

    def snapshot(self) -> _cards.Numbers:
        """What is drawn now, from the scheduler and the facility; a part that does not answer is left out."""
        workers: dict[str, Any] = {}
        wanted, reason = None, ""
        if self.status == "running":
            workers = _workers_of(self)
            try:
                known = self.describe()
                wanted, reason = known["workers"]["wanted"], known["reason"]
            except ScaleoutError as error:
                reason = str(error)
        return _cards.numbers(self.name, self.status, workers, wanted=wanted, reason=reason, link=self.dashboard_link)

    def _repr_html_(self) -> str:
        return _cards.html(self.snapshot())

    def _ipython_display_(self, **_: Any) -> None:
        """A widget that renews itself where ipywidgets is there, else the numbers of this moment."""
        from IPython.display import display

        card = self._repr_html_()
        bundle = {"text/plain": repr(self), "text/html": card}
        widget = _cards.widget(card)
        if widget is not None:
            bundle |= widget._repr_mimebundle_()
            _cards.keep_fresh(self, widget, REFRESH_SECONDS)
        display(bundle, raw=True)


def _workers_of(cluster: Cluster) -> dict[str, Any]:
    """Workers by address with their newest metrics; empty when the scheduler does not answer at once."""
    try:
        found = cluster.gateway.sync(_identity, cluster)
    except (OSError, TimeoutError):
        return {}
    workers: dict[str, Any] = found["workers"]
    return workers


async def _identity(cluster: Cluster) -> Any:
    return await asyncio.wait_for(cluster.scheduler_comm.identity(), 2.0)


def cluster(workers: int = 4, site: str | None = None, environment: str | None = None) -> Cluster:
    """A new cluster with so many workers, connected; it stays until `stop()` or the facility's idle time.

    Returns as soon as the scheduler runs: tasks may be submitted while workers still start (`wait()`).
    ScaleoutError says in words what the facility refused and what your groups allow.
    """
    api = Api()
    wanted = {"workers": workers, "site": site or "", "environment": environment or ""}
    return connect(api.post("scaleout/clusters", wanted)["name"])


def _await_scheduler(api: Api, name: str) -> None:
    """Wait until it runs, so that a start that failed is told in the facility's words."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        now = api.get(f"scaleout/clusters/{quote(name, safe='')}")
        if now["status"] == "running":
            return
        if now["status"] not in ("pending", "starting"):
            raise ScaleoutError(f"Cluster {name[:8]} {now['status']}", now["reason"])
        time.sleep(0.25)
    raise ScaleoutError(f"Cluster {name[:8]} did not start within {START_SECONDS} s", "See the panel for its state.")


def connect(name: str | None = None) -> Cluster:
    """A cluster that runs already; without a name, the newest of yours."""
    api = Api()
    if name is None:
        alive = [one for one in list() if one["status"] not in ("stopped", "failed")]
        if not alive:
            raise ScaleoutError("You have no cluster", "Make one with scaleout.cluster(workers=4) or in the panel.")
        name = str(max(alive, key=lambda one: one["started"])["name"])
    _await_scheduler(api, name)
    found: Cluster = Cluster.from_name(name, shutdown_on_close=False)
    return found


def list() -> _builtin_list[dict[str, Any]]:  # noqa: A001 - reads as scaleout.list()
    """Your clusters, as the facility describes them."""
    found: _builtin_list[dict[str, Any]] = Api().get("scaleout/clusters")["items"]
    return found


def sites() -> _builtin_list[dict[str, Any]]:
    """Where workers can run, and how many you may still ask for."""
    found: _builtin_list[dict[str, Any]] = Api().get("scaleout/sites")["items"]
    return found
