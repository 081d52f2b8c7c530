"""The sections of facility.yaml that GPU sharing reads, and what it needs from outside systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from specola.core.section import GiB, GroupName, Seconds, Section
from specola.gpu.state import Slot

GpuModelName = Literal[
    "A30-24GB",
    "A100-40GB",
    "A100-80GB",
    "H100-80GB",
    "H100-94GB",
    "H100-96GB",
    "GH200-144GB",
    "H200-141GB",
    "B200-180GB",
    "GB200-186GB",
    "B300-269GB",
    "RTX-PRO-6000-96GB",
]

PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""It becomes a segment of paths and addresses."""

Home = Literal["shared", "sync", "none"]
"""What a GPU kernel sees of its person's home: all of it, a working folder that travels with it, nothing."""

Granularity = Literal["none", "node", "device", "instance"]
"""What an actuator can change: nothing, the layout of a drained node, whole GPUs, single slices."""


class _Pool(Section):
    model: GpuModelName = Field(description="model of its GPUs; its MIG geometry comes with Specola")
    groups: tuple[GroupName, ...] = Field(default=(), description="groups that may use it; empty: everybody")


class SimulatedPool(_Pool):
    """Invented GPUs with the rules of real ones, labelled `simulated` wherever they show."""

    actuator: Literal["simulated"]
    cards: int = Field(default=1, ge=1, le=4096, description="number of GPUs")
    layout: tuple[str, ...] | None = Field(
        default=None, description="fixed slices of every card, as in `[3g, 2g, 1g, 1g]`; absent: made on demand"
    )


class NvmlPool(_Pool):
    """The GPUs of this machine, through NVIDIA's management library."""

    actuator: Literal["nvml"]
    devices: tuple[str, ...] = Field(default=(), description="UUIDs of the GPUs that belong to it; empty: all")
    create: bool = Field(default=False, description="make and destroy MIG slices on demand; else use what is there")


class _Site(_Pool):
    shapes: tuple[str, ...] = Field(default=(), description="shapes that the site has; empty: all of the model")
    home: Home = Field(
        default="none",
        description="what its machines see of people's homes: `shared`, a working folder that travels (`sync`), `none`",
    )
    python: str = Field(default="python3", description="Python with specola-worker on the site's machines")
    cores: int = Field(default=1, ge=1, description="processor cores of a job")
    memory_gib: GiB = Field(default=8, description="memory of a job")
    config: str | None = Field(
        default=None,
        description="configuration of the site's client programs, `{account}` for the person's account; absent: theirs",
    )


class CondorPool(_Site):
    """Slices that an HTCondor pool hands out; its negotiator decides where and when."""

    actuator: Literal["condor"]
    schedd: str | None = Field(default=None, description="name of the schedd; absent: the local one")
    collector: str | None = Field(default=None, description="host of the collector; absent: as condor_config says")
    submit: dict[str, str] = Field(default={}, description="more lines of the submit description")


class SlurmPool(_Site):
    """Slices that Slurm hands out as generic resources."""

    actuator: Literal["slurm"]
    partition: str | None = Field(default=None, description="partition of the jobs; absent: Slurm's default")
    gres: str = Field(default="gpu:{profile}", description="generic resource of a slice, as in `gpu:h200_{profile}`")
    options: tuple[str, ...] = Field(default=(), description="more options of sbatch, as in `[--account=ml]`")
    programs: str = Field(default="/usr/bin", description="directory of sbatch, squeue and scancel")


class KubernetesPool(_Pool):
    """Slices of Kubernetes nodes, by the device plugin, by resource claims, or by node layouts of mig-parted."""

    actuator: Literal["device-plugin", "dra", "mig-parted"]
    cards: int = Field(default=1, ge=1, le=4096, description="number of GPUs")
    layout: tuple[str, ...] | None = Field(default=None, description="fixed slices of every card")
    node_selector: dict[str, str] = Field(default={}, description="labels of the nodes that carry its GPUs")
    strategy: Literal["mixed", "single"] = Field(
        default="mixed", description="MIG strategy of the device plugin: how it names slices"
    )


Pool = Annotated[SimulatedPool | NvmlPool | CondorPool | SlurmPool | KubernetesPool, Field(discriminator="actuator")]


class GpuSection(Section):
    """`gpu:` of facility.yaml."""

    pools: dict[PoolName, Pool] = Field(default={}, description="GPUs by pool; none: nobody is offered a GPU")
    hold: Seconds = Field(default=900, description="how long a granted slice waits for its person")
    idle_after: Seconds = Field(default=600, description="a lease without activity this long may be reclaimed")
    quiet_after: Seconds = Field(
        default=1800, description="a busy kernel whose GPU is quiet this long is idle, if it can save itself"
    )
    notice: Seconds = Field(default=120, description="warning before a reclaimed slice is taken")
    youngest: Seconds = Field(default=900, description="no lease younger than this is reclaimed")
    saving: Seconds = Field(default=60, description="longest time that saving a kernel may take at the end")
    longest_lease: Seconds = Field(default=28800, description="longest lease, unless a group of theirs says more")
    max_requests: int = Field(default=4, ge=1, description="open requests of one person")


class GroupGpu(Section):
    """`groups.<name>.gpu:` of facility.yaml. Slots are eighths of a GPU."""

    guaranteed_slots: float = Field(default=0, ge=0, description="what the group gets before others do")
    max_slots: float | None = Field(default=None, ge=0, description="most that its members hold at once; absent: all")
    weight: float = Field(default=1, gt=0, description="share of the group when more is asked than there is")
    longest_lease: Seconds | None = Field(default=None, description="longest lease of its members")


@dataclass(frozen=True)
class Instance:
    """A slice that exists: `uuid` is what CUDA calls it (`MIG-…`, or `GPU-…` for a whole GPU)."""

    uuid: str
    shape: str
    slot: Slot
    tag: str | None = None
    """the lease that it was made for, where the actuator can remember"""


@dataclass(frozen=True)
class Card:
    """One GPU as an actuator finds it."""

    id: str
    index: int
    model: str
    mig: bool
    instances: tuple[Instance, ...] = ()
    healthy: bool = True
    reason: str = ""
    foreign: tuple[tuple[int, int], ...] = ()
    """(start, size) that others occupy"""


@dataclass(frozen=True)
class Sample:
    """What a slice did at one moment; None is what nobody can measure here."""

    at: float
    engine: float | None = None
    """share of time with the compute engine active, 0 to 1 (NVML GPM or DCGM)"""
    memory: int | None = None
    """bytes in use"""
    processes: int | None = None


class ActuatorError(Exception):
    """The slice cannot be made or destroyed at present; the text says why, for the operator."""


class Actuator(Protocol):
    """GPUs of one pool where we decide: `make` and `destroy` may be asked twice, with the same effect as once."""

    kind: str
    simulated: bool
    granularity: Granularity
    controls_placement: bool

    @property
    def latency(self) -> float:
        """Seconds that making a slice usually takes."""

    async def cards(self) -> Sequence[Card]:
        """Every GPU and every slice on it, as they are now."""

    async def make(self, slot: Slot, shape: str, tag: str) -> Instance:
        """The slice at this place; ActuatorError when it cannot be had."""

    async def destroy(self, instance: Instance) -> None:
        """Free the slot; one that is gone already is fine."""

    async def sample(self, instance: Instance) -> Sample:
        """What it does now."""

    def environment(self, instance: Instance) -> Mapping[str, str]:
        """Variables that show a process this slice and no other."""


@dataclass(frozen=True)
class Work:
    """A kernel worker to run where a lease's slice is."""

    lease: str
    person: str
    pool: str
    shape: str
    seconds: int
    settings: Mapping[str, Any] = field(repr=False)
    """kernel.json: holds a secret, so it travels as a 0600 file only"""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """Not running yet; `reason` is a sentence in the person's words."""

    reason: str


@dataclass(frozen=True)
class Running:
    """It runs, there."""

    host: str
    device: str = ""


@dataclass(frozen=True)
class Gone:
    """It does not run (any more); `reason` is empty when it simply ended."""

    reason: str = ""


class Runner(Protocol):
    """Starts kernel workers: the launcher of this machine, or a site's batch system. All may be asked twice."""

    site: str
    """word for where that is: `this machine`, `HTCondor`, `Slurm`"""

    async def start(self, work: Work) -> None:
        """Run it; one that runs for this lease already is left as it is."""

    async def poll(self, lease: str) -> Waiting | Running | Gone:
        """How it is."""

    async def stop(self, lease: str) -> None:
        """End it; one that is gone already is fine."""

    async def leases(self) -> frozenset[str]:
        """Every lease of this facility that something runs or waits for."""
