"""dask-gateway's back end: schedulers and workers are programs of the launcher, run as their owner.

The gateway's database says what should run, the launcher says what does. Both outlive this process, so a
killed gateway finds its clusters again by their keys. A launcher that does not answer says nothing about
its programs: unknown is alive.

The gateway is one process with one loop; a check and its effect without an `await` between them are atomic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web
from dask_gateway_server import models
from dask_gateway_server.backends.base import ClusterConfig
from dask_gateway_server.backends.db_base import Cluster, DBBackendBase, JobStatus, Worker
from dask_gateway_server.models import User
from traitlets import Any as AnyTrait
from traitlets import Float, List, Type, Unicode

from specola.client.launcher import Gone, Launcher
from specola.core import log
from specola.core.errors import PublicError, SpecolaError
from specola.scaleout.adapters import commands
from specola.scaleout.adapters.for_service import service_routes
from specola.scaleout.adapters.gateway_options import choose, cluster_options
from specola.scaleout.adapters.overview import describe, last_lines, wanted
from specola.scaleout.adapters.wire import Report, read_heartbeat, read_range, refusal
from specola.scaleout.budget import Allowance, allowance, check_clusters, check_range, check_workers, remaining
from specola.scaleout.cluster import OwnedCluster
from specola.scaleout.model import GroupScaleout, ScaleoutSection

GIB = 2**30
LOG_TAIL = 4096
KEPT_ENDED = 3600
LOOK_PATIENCE = 1.0
SCHEDULER_MEMORY_GIB = 2.0


class LauncherClusterConfig(ClusterConfig):
    """What is kept of a cluster besides upstream's own settings."""

    site = Unicode()
    software = Unicode(help="name of the environment")
    groups = List(Unicode(), help="the owner's groups when the cluster was made")
    request_id = Unicode(help="the request that asked for it")


class LauncherBackend(DBBackendBase):
    """Starts, stops and watches the processes of clusters through the launcher."""

    cluster_config_class = Type(LauncherClusterConfig, klass=ClusterConfig)
    launcher_socket = Unicode(help="the launcher's unix socket", config=True)
    prefix = Unicode(help="environment whose `dask` is run", config=True)
    section = AnyTrait(ScaleoutSection(), help="`scaleout:` of the facility", config=True)
    group_table = AnyTrait({}, help="group → its part of `scaleout:`", config=True)
    watch_period = Float(3.0, help="seconds between looks at running schedulers", config=True)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.launcher = Launcher(Path(self.launcher_socket))
        self.glance = Launcher(Path(self.launcher_socket), wait=LOOK_PATIENCE)
        self.cluster_options = self.options_for
        self.people: dict[str, frozenset[str]] = {}
        self.promised: dict[str, int] = {}
        self.reports: dict[str, Report] = {}
        self.troubles: dict[str, str] = {}
        self.forgotten: set[str] = set()

    @property
    def settings(self) -> ScaleoutSection:
        """`scaleout:` of the facility."""
        section: ScaleoutSection = self.section
        return section

    @property
    def environments(self) -> dict[str, Path]:
        """The environments that a cluster can run in, by name."""
        return {"default": Path(self.prefix)}

    async def setup(self, app: web.Application) -> None:
        """Called by the gateway when it starts, before it listens."""
        await super().setup(app)
        app.add_routes(service_routes(self, app["authenticator"].is_service))

    async def do_setup(self) -> None:
        """Called by the gateway when it starts."""
        self.task_pool.spawn(self.watch_schedulers())
        self._renumber_routes()

    def _renumber_routes(self) -> None:
        """Make a client proxy that outlived the last gateway fetch all routes.

        Upstream counts them from 1 again, and the proxy would miss those whose number it has seen already.
        """
        start = int(time.time())
        self.proxy.offset += start
        self.proxy._next_id += start  # noqa: SLF001 - upstream has no other way
        for event in self.proxy.events:
            event["id"] += start

    # ---- people and their budget

    def meet(self, user: User) -> None:
        """Remember the groups of somebody whom the authenticator has just recognised."""
        self.people[user.name] = frozenset(user.groups)

    def options_for(self, user: User) -> Any:
        """The options that somebody may choose from."""
        try:
            return cluster_options(self.settings, list(self.environments), user)
        except PublicError as error:
            raise refusal(error) from None

    def allowance_of(self, person: str, otherwise: tuple[str, ...] = ()) -> Allowance:
        """What somebody may have, by the groups they were last seen with."""
        table: dict[str, GroupScaleout] = self.group_table
        return allowance(self.settings, table, self.people.get(person, frozenset(otherwise)))

    def held(self, cluster: Cluster) -> int:
        """Workers that count against the budget: what runs or may run without another question."""
        adaptive = self.reports.get(cluster.name, Report()).adaptive
        reserved = adaptive.maximum if adaptive else 0
        return max(wanted(cluster), self.promised.get(cluster.name, 0), reserved)

    def elsewhere(self, person: str, cluster: str | None = None) -> int:
        """Workers that somebody's other clusters hold."""
        mine = self.db.list_clusters(username=person)
        return sum(self.held(other) for other in mine if other.name != cluster)

    # ---- requests of people

    async def start_cluster(self, user: User, cluster_options: dict[str, Any]) -> str:
        """Create a cluster; asked twice with one idempotency key, the same."""
        try:
            asked = choose(self.settings, list(self.environments), user, cluster_options)
            options, config = await self.process_cluster_options(user, asked)
            mine = self.db.list_clusters(username=user.name)
            for cluster in mine:
                if options["request"] and cluster.options.get("request") == options["request"]:
                    return str(cluster.name)
            allowed = self.allowance_of(user.name, tuple(user.groups))
            check_clusters(allowed, len(mine))
            check_workers(allowed, options["workers"], self.elsewhere(user.name))
        except PublicError as error:
            raise refusal(error) from None
        config.request_id = log.request_id.get()
        cluster = self.db.create_cluster(user.name, options, config.to_dict())
        self.log.info("cluster %s for %s", cluster.name, user.name)
        self.queue.put(cluster)
        return str(cluster.name)

    async def get_cluster(self, cluster_name: str, wait: bool = False) -> models.Cluster | None:  # noqa: FBT001, FBT002
        """A cluster's report; its owner's client connects to the scheduler itself with the address in it."""
        model = await super().get_cluster(cluster_name, wait=wait)
        if model is not None and model.scheduler_address:
            model.options = {**model.options, "specola": {"address": model.scheduler_address}}
        return model

    async def forward_message_to_scheduler(self, cluster: models.Cluster, msg: dict[str, Any]) -> None:
        """Scale or adapt within the owner's budget. What is promised is held until the scheduler reports it."""
        allowed = self.allowance_of(cluster.username, tuple(cluster.config.get("groups", ())))
        elsewhere = self.elsewhere(cluster.username, cluster.name)
        before = self.promised.get(cluster.name)
        try:
            if msg["op"] == "scale":
                check_workers(allowed, msg["count"], elsewhere)
                self.promised[cluster.name] = msg["count"]
            elif msg["active"]:
                least, most = check_range(allowed, *read_range(msg), elsewhere)
                msg = {**msg, "minimum": least, "maximum": most}
                self.promised[cluster.name] = most
            else:
                self.promised.pop(cluster.name, None)
        except PublicError as error:
            raise refusal(error) from None
        try:
            await super().forward_message_to_scheduler(cluster, msg)
        except BaseException:
            self.promised[cluster.name] = before or 0
            raise

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        """A scheduler reports: it runs the user's code, so nothing of it is believed unchecked."""
        try:
            checked, report = read_heartbeat(msg)
        except PublicError as error:
            raise refusal(error) from None
        cluster = self.db.get_cluster(cluster_name)
        if cluster is None or cluster.target > JobStatus.RUNNING:
            return
        self.reports[cluster_name] = report
        if report.ending:
            self.troubles[cluster_name] = report.ending
        elif len(checked["active_workers"]) >= checked["count"]:
            self.troubles.pop(cluster_name, None)
        allowed = self.allowance_of(cluster.username, tuple(cluster.config.get("groups", ())))
        most = remaining(allowed, self.elsewhere(cluster.username, cluster_name))
        await super().on_cluster_heartbeat(cluster_name, {**checked, "count": min(checked["count"], most)})

    def clusters(self) -> list[OwnedCluster]:
        """Every cluster that runs or ended within the last hour, for the API service."""
        horizon = (time.time() - KEPT_ENDED) * 1000
        records = self.db.name_to_cluster.values()
        shown = [r for r in records if r.stop_time is None or r.stop_time > horizon]
        return [self.describe(r) for r in shown if r.name not in self.forgotten]

    async def stop_cluster(self, cluster_name: str, failed: bool = False) -> None:  # noqa: FBT001, FBT002
        """End a cluster; one that has ended already is not shown any more."""
        cluster = self.db.get_cluster(cluster_name)
        if cluster is not None and cluster.status >= JobStatus.STOPPED:
            self.forgotten.add(cluster_name)
        await super().stop_cluster(cluster_name, failed=failed)

    def describe(self, record: Cluster) -> OwnedCluster:
        """One cluster as people see it."""
        note = self.troubles.get(record.name) or (record.state or {}).get("note", "")
        return describe(record, self.reports.get(record.name, Report()), note, self.settings.idle_timeout)

    # ---- processes

    async def reconcile_cluster(self, cluster: Cluster) -> None:
        """Called by upstream's loop; what it logs carries the id of the request that asked for the cluster."""
        log.request_id.set(cluster.config.get("request_id", ""))
        await super().reconcile_cluster(cluster)

    async def reconcile_worker(self, worker: Worker) -> None:
        """Called by upstream's loop, as above."""
        log.request_id.set(worker.cluster.config.get("request_id", ""))
        await super().reconcile_worker(worker)

    def identity(self, cluster: Cluster) -> commands.Identity:
        """What the processes of a cluster prove who they are with."""
        certificate, key = cluster.tls_cert.decode(), cluster.tls_key.decode()
        return commands.Identity(cluster.name, cluster.config.get("request_id", ""), certificate, key, cluster.token)

    async def launch(self, cluster: Cluster, program: commands.Program, memory: float, cores: int) -> dict[str, Any]:
        """Start a program as the cluster's owner; asked twice, the same process."""
        try:
            started = await self.launcher.start(
                program.key,
                cluster.username,
                list(program.argv),
                program.env,
                files=program.files,
                memory_gib=memory,
                cores=cores,
            )
        except SpecolaError as error:
            self.troubles[cluster.name] = f"The launcher does not start a process of it: {error}."
            raise
        return {"pid": started.pid}

    async def do_start_cluster(self, cluster: Cluster) -> AsyncIterator[dict[str, Any]]:
        """Start the scheduler."""
        program = commands.scheduler(
            self.environments[cluster.config.software],
            self.identity(cluster),
            api_url=self.api_url,
            workers=cluster.options["workers"],
            options={
                "heartbeat-period": self.cluster_heartbeat_period,
                "adaptive-period": cluster.config.adaptive_period,
                "idle-timeout": self.settings.idle_timeout,
            },
        )
        yield await self.launch(cluster, program, SCHEDULER_MEMORY_GIB, 1)

    async def do_stop_cluster(self, cluster: Cluster) -> None:
        """End the scheduler and whatever of the cluster is left; keep in words why it ended."""
        note = self.troubles.pop(cluster.name, "")
        if cluster.target == JobStatus.FAILED and not note:
            note = await self.why(commands.scheduler_key(cluster.name), "The scheduler failed")
        self.db.update_cluster(cluster, state={**(cluster.state or {}), "note": note})
        await self.launcher.end(commands.scheduler_key(cluster.name))
        await self.launcher.end_all(f"cluster.{cluster.name}.")
        self.reports.pop(cluster.name, None)
        self.promised.pop(cluster.name, None)

    async def do_start_worker(self, worker: Worker) -> AsyncIterator[dict[str, Any]]:
        """Start one worker."""
        cluster, section = worker.cluster, self.settings
        memory = section.worker_memory_gib
        program = commands.worker(
            self.environments[cluster.config.software],
            self.identity(cluster),
            name=worker.name,
            scheduler_address=cluster.scheduler_address,
            cores=section.worker_cores,
            memory=int(memory * GIB),
        )
        yield await self.launch(cluster, program, memory, section.worker_cores)

    async def do_stop_worker(self, worker: Worker) -> None:
        """End one worker; when it failed, say why in its cluster's reason."""
        key = commands.worker_key(worker.cluster.name, worker.name)
        if worker.target == JobStatus.FAILED and worker.cluster.target == JobStatus.RUNNING:
            self.troubles[worker.cluster.name] = await self.why(key, "A worker ended")
        await self.launcher.end(key)

    async def why(self, key: str, what: str) -> str:
        """A sentence about a program that ended, with the last lines of its log."""
        try:
            state = await self.launcher.poll(key)
            code = state.code if isinstance(state, Gone) else None
            said = last_lines(await self.launcher.log(key, LOG_TAIL))
        except SpecolaError:
            return f"{what}."
        ending = "" if code is None else f" (signal {-code})" if code < 0 else f" (code {code})"
        return f"{what}{ending}: {said}" if said else f"{what}{ending}."

    async def alive(self, key: str) -> bool:
        """Whether a program may still run: only a launcher that says so makes it dead."""
        try:
            return not isinstance(await self.glance.poll(key), Gone)
        except SpecolaError:
            return True

    async def do_check_clusters(self, clusters: list[Cluster]) -> list[bool]:
        """Which schedulers that start are alive."""
        return [await self.alive(commands.scheduler_key(c.name)) for c in clusters]

    async def do_check_workers(self, workers: list[Worker]) -> list[bool]:
        """Which workers that start are alive."""
        return [await self.alive(commands.worker_key(w.cluster.name, w.name)) for w in workers]

    async def watch_schedulers(self) -> None:
        """Notice a running scheduler that died; upstream would wait for its heartbeats to be missed."""
        while True:
            await asyncio.sleep(self.watch_period)
            running = [c for c in self.db.active_clusters() if c.status == JobStatus.RUNNING]
            for cluster, alive in zip(running, await self.do_check_clusters(running), strict=True):
                if not alive:
                    await self.stop_cluster(cluster.name, failed=True)
