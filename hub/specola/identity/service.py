"""Who somebody is and what they may use, with the reason for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from specola.core.scopes import GPU_WRITE, SCALEOUT_WRITE, SERVERS_WRITE, allows
from specola.core.section import Section
from specola.identity.model import Role

What = Literal["servers", "gpu", "scaleout"]


class MyGroup(Section):
    """A group of the caller that this facility knows."""

    name: str
    roles: tuple[Role, ...] = Field(description="what membership gives")
    why: Literal["token", "roster"] = Field(description="stated by the issuer, or by the facility's own roster")


class Right(Section):
    """One thing that may be used or not."""

    what: What
    allowed: bool
    why: str


class MyLimits(Section):
    """The most that the caller may use; null where the facility sets no limit."""

    memory_gib: float | None = Field(description="memory of a notebook server")
    cores: float | None = Field(description="cores of a notebook server")
    workers: int = Field(description="Dask workers at the same time")


class Me(Section):
    """The answer to *who am I*."""

    name: str
    full_name: str
    groups: tuple[MyGroup, ...]
    roles: tuple[Role, ...]
    rights: tuple[Right, ...]
    limits: MyLimits


@dataclass(frozen=True)
class GroupRights:
    """What the facility file says about one group."""

    roles: tuple[Role, ...]
    members: tuple[str, ...] = ()
    memory_gib: float | None = None
    cores: float | None = None
    workers: int | None = None
    gpu: bool = False
    """whether its members may use a pool of GPUs"""


class IdentityService:
    """Answers from the facility file, the hub's groups and what the caller's token carries."""

    def __init__(
        self,
        groups: Mapping[str, GroupRights],
        defaults: MyLimits,
        full_name: Callable[[str], str] = lambda name: name,
        *,
        has_gpus: bool = False,
    ) -> None:
        self._groups = groups
        self._defaults = defaults
        self._full_name = full_name
        self._has_gpus = has_gpus

    def me(self, name: str, groups: tuple[str, ...], scopes: frozenset[str]) -> Me:
        """Everything about one person."""
        mine = {g: self._groups[g] for g in sorted(groups) if g in self._groups}
        held = {role for group in mine.values() for role in group.roles}
        return Me(
            name=name,
            full_name=self._full_name(name),
            groups=tuple(
                MyGroup(name=g, roles=group.roles, why="roster" if name in group.members else "token")
                for g, group in mine.items()
            ),
            roles=tuple(role for role in Role if role in held),
            rights=tuple(self._rights(name, scopes, mine)),
            limits=self._limits(tuple(mine.values())),
        )

    def _rights(self, name: str, scopes: frozenset[str], mine: Mapping[str, GroupRights]) -> Iterator[Right]:
        yield _right("servers", SERVERS_WRITE, name, scopes, tuple(mine))
        if self._has_gpus:
            sharing = tuple(group for group, rights in mine.items() if rights.gpu)
            if mine and not sharing:
                yield Right(what="gpu", allowed=False, why="no group of yours may use the GPUs of this facility")
            else:
                yield _right("gpu", GPU_WRITE, name, scopes, sharing)
        yield _right("scaleout", SCALEOUT_WRITE, name, scopes, tuple(mine))

    def _limits(self, groups: tuple[GroupRights, ...]) -> MyLimits:
        """The best of the default and of what each group gives."""
        start = self._defaults
        return MyLimits(
            memory_gib=_most(start.memory_gib, *(g.memory_gib for g in groups)),
            cores=_most(start.cores, *(g.cores for g in groups)),
            workers=max([start.workers, *(g.workers for g in groups if g.workers is not None)]),
        )


def _most(default: float | None, *given: float | None) -> float | None:
    """No default is no limit: a group can only raise one that exists."""
    return None if default is None else max([default, *(value for value in given if value is not None)])


def _right(what: What, scope: str, name: str, scopes: frozenset[str], groups: tuple[str, ...]) -> Right:
    if not groups:
        return Right(what=what, allowed=False, why="you are in no group that this facility knows")
    if not allows(scopes, scope, name):
        return Right(what=what, allowed=False, why=f"this login or token lacks the scope {scope}")
    return Right(
        what=what, allowed=True, why=f"through {'the group' if len(groups) == 1 else 'the groups'} {', '.join(groups)}"
    )
