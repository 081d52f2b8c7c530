"""Requests: what can be asked for, by whom, and the clear refusal of what can never be had."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from specola.core.database import record
from specola.core.errors import Conflict, NotFound, TooMuch
from specola.gpu.api import NewRequest
from specola.gpu.pools import GpuPool
from specola.gpu.situation import Situation
from specola.gpu.sizes import shapes_for
from specola.gpu.state import Want
from specola.gpu.store import Asked
from specola.gpu.telling import Teller
from specola.gpu.views import gib_of, words

DAY = 86400.0
NEVER = "never_served"
BEFORE_USE = ("making", "offered", "starting")


def never(title: str, detail: str) -> TooMuch:
    """The refusal of a request that would wait for ever: what is wrong, and what could be had instead."""
    return TooMuch(title, detail, reason=NEVER)


@dataclass(frozen=True)
class Found:
    """What a request comes down to: the group that it counts for, and what it would accept, the best first."""

    group: str
    wants: tuple[Want, ...]


class Requesting:
    """Takes requests into the queue, and out of it again."""

    def __init__(self, situation: Situation, teller: Teller) -> None:
        self._at = situation
        self._tell = teller

    # what can be had

    def groups_of(self, groups: Collection[str]) -> list[str]:
        """The person's groups that the facility knows, the one with the most to give first."""

        def worth(name: str) -> tuple[float, float, float, str]:
            group = self._at.groups[name]
            most = float("inf") if group.max_slots is None else group.max_slots
            return (-group.guaranteed_slots, -group.weight, -most, name)

        return sorted((name for name in set(groups) if name in self._at.groups), key=worth)

    def pools_of(self, groups: Collection[str]) -> list[GpuPool]:
        """Pools that are open to somebody in these groups."""
        return [pool for pool in self._at.pools.values() if not pool.closed and _open_to(pool, groups)]

    def resolve(self, groups: Collection[str], wish: NewRequest) -> Found:
        """Group and wants of a request; TooMuch says why it can never be served, and what could."""
        if wish.gib is not None and wish.gib <= 0:
            raise never("A size is more than 0 GiB", self._could(groups))
        if wish.minutes < 1:
            raise never("A GPU is held for at least a minute", "Say how many minutes you need.")
        candidates = self._candidates(groups, wish)
        pools = self._pools(groups, wish)
        refusals: list[TooMuch] = []
        for group in candidates:
            try:
                return self._within(group, wish, pools)
            except TooMuch as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def _candidates(self, groups: Collection[str], wish: NewRequest) -> list[str]:
        mine = self.groups_of(groups)
        if not mine:
            raise never("You are in no group that may have GPUs", "Ask whoever runs the facility.")
        if wish.group is None:
            return mine
        if wish.group not in mine:
            raise never("You are not in this group", f"Yours are: {', '.join(mine)}.")
        return [wish.group]

    def _pools(self, groups: Collection[str], wish: NewRequest) -> list[GpuPool]:
        """The pools that are meant, and could run it at all."""
        found = self.pools_of(groups) if wish.pool is None else [self._named(groups, wish.pool)]
        if not found:
            raise never("There are no GPUs here that you may use", self._could(groups))
        if wish.server:
            found = [pool for pool in found if pool.places]
            if not found:
                raise never(
                    "A whole server cannot have a slice of this pool",
                    "The site decides where its slices lie: ask for a GPU kernel instead.",
                )
        if all(pool.places and not pool.cards for pool in found):
            trouble = next((pool.trouble for pool in found if pool.trouble), "It has no GPUs at present.")
            raise never("There are no GPUs in this pool", trouble)
        return found

    def _named(self, groups: Collection[str], name: str) -> GpuPool:
        found = self.pools_of(groups)
        named = self._at.pools.get(name)
        if named is None:
            names = ", ".join(pool.name for pool in found)
            raise never("There is no such pool", f"You could ask in: {names}." if names else self._could(groups))
        if named.closed:
            raise never("This pool cannot be used here", named.closed)
        if named not in found:
            open_to = ", ".join(named.section.groups)
            raise never("This pool is not open to your groups", f"It is open to: {open_to}.")
        return named

    def _within(self, group: str, wish: NewRequest, pools: Sequence[GpuPool]) -> Found:
        """What one group may have of it."""
        longest = self._at.longest(group)
        if wish.minutes * 60 > longest:
            raise never(
                f"Members of {group} hold a GPU for at most {longest // 60} minutes",
                "Ask for less time, and again when that is over.",
            )
        mine = [pool for pool in pools if _open_to(pool, (group,))]
        every = [want for pool in mine for want in self._shapes(pool, wish)]
        if not every:
            raise never(*self._nothing_fits(wish, mine))
        most = self._at.groups[group].max_slots
        wants = [want for want in every if most is None or self._slots(want) <= most]
        if not wants:
            raise never(
                f"The group {group} may hold {most:g} eighths of a GPU in all",
                f"The smallest that would do takes {min(map(self._slots, every)):g}. {self._could((group,), most)}",
            )
        # the named or the smallest first, then what was said would do as well
        wants.sort(key=lambda want: (want.shape != wish.shape, want.shape in wish.alternatives, self._slots(want)))
        return Found(group, tuple(dict.fromkeys(wants)))

    def _shapes(self, pool: GpuPool, wish: NewRequest) -> Iterable[Want]:
        """What a pool has of it: the smallest shape that holds so much, or the one that was named, and alternatives."""
        there = pool.shapes()
        if wish.shape is not None:
            first = [wish.shape]
        else:
            first = [shape for shape in shapes_for(wish.gib or 0, pool.model) if shape in there][:1]
        return [Want(pool.name, shape) for shape in (*first, *wish.alternatives) if shape in there]

    def _slots(self, want: Want) -> float:
        return self._at.pools[want.pool].model.geometry.eighths(want.shape)

    def _nothing_fits(self, wish: NewRequest, pools: Sequence[GpuPool]) -> tuple[str, str]:
        known = [(gib_of(pool.model, shape), pool, shape) for pool in pools for shape in pool.shapes()]
        if not known:
            return "There is nothing to be had in this pool", "Its layout has no slices at present."
        if wish.gib is not None:
            _, pool, shape = max(known, key=lambda one: one[0])
            return "No GPU here is that large", f"The largest that can be had is {words(pool.model, shape)}."
        names = sorted({shape for _, _, shape in known})
        return "There is no such shape here", f"There are: {', '.join(names)}."

    def _could(self, groups: Collection[str], most: float | None = None) -> str:
        """What these groups could ask for, in a sentence."""
        sizes = {
            gib_of(pool.model, shape)
            for pool in self.pools_of(groups)
            for shape in pool.shapes()
            if most is None or pool.model.geometry.eighths(shape) <= most
        }
        if not sizes:
            return "Nothing can be had at present."
        return f"You could have {', '.join(f'{size:g}' for size in sorted(sizes))} GiB."

    # the queue

    def ask(self, person: str, groups: Collection[str], wish: NewRequest, key: str | None) -> Asked:
        """Take a request into the queue; the same key gives the same request."""
        now = self._at.clock()
        known = None if key is None else self._at.store.with_key(person, key, now - DAY)
        if known is not None:
            return known
        found = self.resolve(groups, wish)
        self._refuse_too_many(person)
        asked = Asked(
            id=secrets.token_hex(8),
            person=person,
            group=found.group,
            wants=found.wants,
            gib=wish.gib,
            seconds=wish.minutes * 60,
            on_grant=wish.on_grant,
            notebook=wish.notebook,
            server=wish.server,
            reclaimable=wish.reclaimable or not wish.server,
            key=key,
            created=now,
        )
        self._at.store.add(asked)
        wants = [f"{want.pool}/{want.shape}" for want in asked.wants]
        record(self._at.store.engine, person, "gpu.request", asked.id, {"wants": wants, "minutes": wish.minutes})
        self._tell.request(asked.id)
        return asked

    def _refuse_too_many(self, person: str) -> None:
        limit = self._at.section.max_requests
        snapshot = self._at.now()
        waiting = sum(asked.person == person for asked in snapshot.queued)
        holding = sum(held.person == person for held in snapshot.live)
        if waiting + holding >= limit:
            raise TooMuch(
                f"This facility allows {limit} requests and leases for one person at a time",
                "Cancel a request or release a lease first.",
                reason="too_many_requests",
            )

    def mine(self, person: str, identity: str) -> Asked:
        """A request of the person; NotFound for everybody else's."""
        asked = self._at.store.asked(identity)
        if asked is None or asked.person != person:
            raise NotFound("There is no such request")
        return asked

    def cancel(self, person: str, identity: str) -> Asked:
        """Wait no longer; an offer that was made to it goes back."""
        asked = self.mine(person, identity)
        store, words = self._at.store, "You cancelled it."
        ended: dict[str, Any] = {"state": "cancelled", "reason": words, "ended": self._at.clock()}
        if asked.state == "served":
            raise Conflict("This request has become a lease that is in use", "Release the lease instead.")
        if store.change(identity, ("queued",), **ended):
            record(store.engine, person, "gpu.cancel", identity)
            self._tell.request(identity)
        elif asked.lease is not None and store.move(
            asked.lease, BEFORE_USE, request=ended, state="ending", outcome="cancelled", reason=words
        ):
            record(store.engine, person, "gpu.cancel", identity)
            self._tell.lease(asked.lease)
        return self.mine(person, identity)


def _open_to(pool: GpuPool, groups: Collection[str]) -> bool:
    return not pool.section.groups or not set(pool.section.groups).isdisjoint(groups)
