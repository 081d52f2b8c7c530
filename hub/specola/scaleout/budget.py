"""How many clusters and workers one person may have, and the words of a refusal.

Pure rules: the gateway, the only writer of clusters, applies them without a pause between check and effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from specola.core.errors import BadInput, TooMuch
from specola.scaleout.model import GroupScaleout, ScaleoutSection


@dataclass(frozen=True)
class Allowance:
    """What one person may have over all their clusters, and which group says so (None: the facility's default)."""

    workers: int
    clusters: int
    group: str | None = None

    @property
    def sentence(self) -> str:
        """Who allows how many workers, as a person reads it."""
        source = "This facility" if self.group is None else f"Group {self.group}"
        return f"{source} allows {count(self.workers, 'worker')} for one person"


def count(number: int, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def allowance(section: ScaleoutSection, table: Mapping[str, GroupScaleout], groups: Iterable[str]) -> Allowance:
    """The most generous of the person's groups that say a number; when none does, the section's."""
    stated = [(limit, name) for name in sorted(groups) if (limit := _limit(table, name)) is not None]
    if not stated:
        return Allowance(section.max_workers, section.max_clusters)
    workers, group = max(stated, key=lambda pair: pair[0])
    return Allowance(workers, section.max_clusters, group)


def _limit(table: Mapping[str, GroupScaleout], name: str) -> int | None:
    return table[name].max_workers if name in table else None


def remaining(allowed: Allowance, elsewhere: int) -> int:
    """Workers that one cluster may have while the person's others hold `elsewhere`."""
    return max(0, allowed.workers - elsewhere)


def check_clusters(allowed: Allowance, running: int) -> None:
    """TooMuch when one more cluster would exceed the allowance."""
    if running >= allowed.clusters:
        raise TooMuch(
            f"This facility allows {count(allowed.clusters, 'cluster')} for one person",
            "Stop one of yours first.",
            reason="too_many_clusters",
        )


def check_workers(allowed: Allowance, asked: int, elsewhere: int) -> None:
    """TooMuch when `asked` workers in one cluster would exceed the allowance."""
    if asked < 0:
        raise BadInput("The number of workers cannot be negative")
    free = remaining(allowed, elsewhere)
    if asked <= free:
        return
    detail = f"{elsewhere} of them belong to your other clusters, so this one can have {free}." if elsewhere else ""
    raise TooMuch(allowed.sentence, detail or "Ask for fewer.", reason="too_many_workers")


def check_range(allowed: Allowance, minimum: int, maximum: int | None, elsewhere: int) -> tuple[int, int]:
    """The range of an adaptive cluster; without a maximum, all that remains. It is held with its maximum."""
    most = max(minimum, remaining(allowed, elsewhere)) if maximum is None else maximum
    if minimum < 0 or most < minimum:
        raise BadInput("The minimum must lie between 0 and the maximum")
    check_workers(allowed, most, elsewhere)
    return minimum, most
