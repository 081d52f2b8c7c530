"""Memory and processor limits of one program and everything that it starts, where this machine has control groups.

Each program has a group of its own in the hierarchy of version 1 (one directory a controller) or version 2. Where no
group can be made the limit is *advisory*: the program is told, nobody stops it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MOUNTS = Path("/proc/self/mountinfo")
PERIOD = 100_000
GIB = 1024**3
Effect = Literal["enforced", "advisory", "none"]
Writes = tuple[tuple[str, str, bool], ...]
"""file, value, and whether a kernel without that file is fine"""


@dataclass(frozen=True)
class Controller:
    """Where one resource is limited, and what to write there."""

    base: Path
    writes: Callable[[float], Writes]


def _memory_v1(gib: float) -> Writes:
    amount = str(int(gib * GIB))
    return ("memory.limit_in_bytes", amount, False), ("memory.memsw.limit_in_bytes", amount, True)


def _memory_v2(gib: float) -> Writes:
    return ("memory.max", str(int(gib * GIB)), False), ("memory.swap.max", "0", True)


def _cpu_v1(cores: float) -> Writes:
    return ("cpu.cfs_period_us", str(PERIOD), False), ("cpu.cfs_quota_us", str(int(cores * PERIOD)), False)


def _cpu_v2(cores: float) -> Writes:
    return (("cpu.max", f"{int(cores * PERIOD)} {PERIOD}", False),)


def mounts(table: Path = MOUNTS) -> list[tuple[str, Path, frozenset[str]]]:
    """Mounted hierarchies: type, place, controllers (version 1 only)."""
    found = []
    for line in table.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            found.append((kind, Path(before.split()[4]), frozenset(options.split(","))))
    return found


def controllers(table: Path = MOUNTS) -> dict[str, Controller]:
    """What can be limited here: `memory`, `cpu`, both or neither."""
    found: dict[str, Controller] = {}
    with contextlib.suppress(OSError):
        for kind, place, options in mounts(table):
            if kind == "cgroup":
                if "memory" in options:
                    found["memory"] = Controller(place, _memory_v1)
                if "cpu" in options:
                    found["cpu"] = Controller(place, _cpu_v1)
                continue
            offered = (place / "cgroup.controllers").read_text().split()
            for name, writes in (("memory", _memory_v2), ("cpu", _cpu_v2)):
                if name in offered:
                    found.setdefault(name, Controller(place, writes))
    return found


@dataclass(frozen=True)
class Box:
    """The groups of one program, and which of its limits hold."""

    groups: tuple[Path, ...] = ()
    effects: dict[str, Effect] = field(default_factory=dict)

    def enter(self) -> None:
        """Put the calling process, and so all that it will start, into the groups."""
        for group in self.groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))


class Limits:
    """The groups of one facility's programs: `<hierarchy>/specola-<id>/<key>`."""

    def __init__(self, facility: str, found: dict[str, Controller] | None = None) -> None:
        self._name = f"specola-{facility}"
        self._controllers = controllers() if found is None else found

    def box(self, key: str, memory_gib: float | None, cores: float | None) -> Box:
        """Make the groups of a program; what cannot be made is advisory."""
        groups: list[Path] = []
        effects: dict[str, Effect] = {}
        for name, amount in (("memory", memory_gib), ("cpu", cores)):
            controller = self._controllers.get(name)
            group = None if controller is None else self._group(controller, name, key)
            held = group is not None and (amount is None or _write(group, controller.writes(amount)))  # type: ignore[union-attr]
            if group is not None and group not in groups:
                groups.append(group)
            effects[name] = "none" if amount is None else "enforced" if held else "advisory"
        return Box(tuple(groups), effects)

    def _group(self, controller: Controller, name: str, key: str) -> Path | None:
        group = controller.base / self._name / key
        with contextlib.suppress(OSError):
            group.parent.mkdir(exist_ok=True)
            for above in (controller.base, group.parent):
                if (above / "cgroup.subtree_control").exists():
                    (above / "cgroup.subtree_control").write_text(f"+{name}")
            group.mkdir(exist_ok=True)
            return group
        return None

    def members(self, key: str) -> set[int]:
        """Pids of what a program's groups hold."""
        found: set[int] = set()
        for group in self._groups(key):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
        return found

    def _groups(self, key: str) -> set[Path]:
        return {controller.base / self._name / key for controller in self._controllers.values()}

    def remove(self, key: str) -> None:
        """Remove a program's groups once they are empty; the kernel may take a moment to see that they are."""
        _remove(self._groups(key))

    def remove_all(self) -> None:
        """Remove what is left of a facility's groups."""
        tops = {controller.base / self._name for controller in self._controllers.values()}
        groups = [group for top in tops if top.is_dir() for group in top.iterdir() if group.is_dir()]
        _remove(groups, tries=200)
        _remove(tops, tries=200)  # the kernel lets go of a parent some time after its last child


def _write(group: Path, writes: Writes) -> bool:
    try:
        for name, value, optional in writes:
            if not optional or (group / name).exists():
                (group / name).write_text(value)
    except OSError:
        return False
    return True


def _remove(groups: Iterable[Path], tries: int = 20) -> None:
    for group in groups:
        for _ in range(tries):
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)
            else:
                break
