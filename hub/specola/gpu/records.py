"""What leases came to: one record each, from which shares, rates and the ledger are counted.

Counted anew at each start instead of kept beside the records, so that no crash can make them differ.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from specola.gpu.pools import GpuPool
from specola.gpu.store import Asked, Held, Record

HALF_LIFE = 7 * 86400.0
"""of usage in fair share, in seconds"""
HORIZON = 8 * HALF_LIFE
"""what is older weighs less than 1/256"""
MEASURED = 7 * 86400.0
"""over which the rate of early releases is measured"""
EARLY = frozenset({"released", "reclaimed"})


def record_of(held: Held, asked: Asked | None, pool: GpuPool | None, outcome: str, now: float) -> Record:
    """The record of a lease that ends now; a slice that was only held in readiness counts as allocated too.

    Where the site's own negotiator decides, nothing is allocated before the kernel is ready.
    """
    begin = held.granted if held.slot is not None else held.active
    geometry = None if pool is None else pool.model.geometry
    early = held.active is not None and outcome in EARLY and held.expires is not None and now < held.expires
    return Record(
        lease=held.id,
        person=held.person,
        group=held.group,
        course=held.course,
        pool=held.pool,
        model="" if pool is None else pool.model.name,
        shape=held.shape,
        slots=held.slots,
        fraction=held.slots / 8 if geometry is None else geometry.size(held.shape) / geometry.slots,
        simulated=held.simulated,
        server=held.for_server,
        asked=held.granted if asked is None else asked.created,
        granted=held.granted,
        active=held.active,
        ended=now,
        allocated_seconds=0.0 if begin is None else max(0.0, now - begin),
        used_seconds=held.used,
        outcome=outcome,  # type: ignore[arg-type]  # one of the words of Outcome
        early=early,
    )


def weight(begin: float, end: float, now: float) -> float:
    """Seconds between two times, each weighed by how long ago it was."""
    rate = math.log(2) / HALF_LIFE
    return (math.exp(-rate * max(0.0, now - end)) - math.exp(-rate * max(0.0, now - begin))) / rate


class Usage:
    """Decayed slot-seconds of groups, and how often leases end early."""

    def __init__(self, records: Iterable[Record], now: float) -> None:
        self._at = now
        self._base: defaultdict[str, float] = defaultdict(float)
        self._ends: list[tuple[float, float, bool]] = []
        for record in records:
            self.add(record, now)

    def add(self, record: Record, now: float) -> None:
        """Count a lease that has ended."""
        self._decay(now)
        begin = record.ended - record.allocated_seconds
        self._base[record.group] += record.slots * weight(begin, record.ended, now)
        if record.active is not None:
            self._ends.append((record.ended, max(0.0, record.ended - record.active), record.early))

    def of_groups(self, live: Iterable[Held], now: float) -> Mapping[str, float]:
        """Slot-seconds of each group as of now, those of leases that run among them."""
        self._decay(now)
        found = defaultdict(float, self._base)
        for held in live:
            begin = held.granted if held.slot is not None else held.active
            if begin is not None:
                found[held.group] += held.slots * weight(begin, now, now)
        return found

    def early_release(self, now: float) -> float:
        """Leases that ended before their term, per second of active lease, over the last week; 0 when unknown."""
        self._ends = [end for end in self._ends if end[0] > now - MEASURED]
        seconds = sum(length for _, length, _ in self._ends)
        return sum(early for _, _, early in self._ends) / seconds if seconds > 0 else 0.0

    def _decay(self, now: float) -> None:
        factor = 0.5 ** (max(0.0, now - self._at) / HALF_LIFE)
        for group in self._base:
            self._base[group] *= factor
        self._at = max(self._at, now)
