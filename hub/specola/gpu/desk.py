"""Admission: in the order of the queue, everybody who fits gets the first of their wishes that fits.

Whoever is admitted keeps what follows from being first: nothing that comes later can take it, and nothing that comes
later was held up for what could not be had (backfill). A group never passes its maximum, not even within one plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from specola.gpu.board import Board
from specola.gpu.queueing import Census, Seat
from specola.gpu.state import Grant, GroupShare, Slot, Want, Wish


@dataclass(slots=True)
class Left:
    """Those who could not be admitted, the next first."""

    wishes: list[Wish]
    limited: set[str] = field(default_factory=set)
    """ids of those for whom the maximum of their group stands in the way, and not only the room"""


@dataclass(slots=True)
class Desk:
    """Boards of all pools, and what the groups hold."""

    boards: Mapping[str, Board]
    counted: Census
    groups: Mapping[str, GroupShare]
    kept: dict[Seat, list[Slot]] = field(default_factory=dict)
    """slices set aside for courses in their hours"""

    def admit(self, line: Sequence[Wish]) -> tuple[list[tuple[Wish, Want]], Left]:
        """Who gets what, and who has to wait; promised on the boards."""
        admitted: list[tuple[Wish, Want]] = []
        left = Left([])
        waiting, boards, kept = left.wishes, self.boards, bool(self.kept)
        for wish in line:
            for want in wish.wants:
                board = boards.get(want.pool)
                if board is None or (want.shape in board.dead and not kept):
                    continue
                size = self._within(wish, want)
                if size is None:
                    left.limited.add(wish.id)
                elif size and self._promise(board, wish, want):
                    self.counted.held[wish.group] += size
                    admitted.append((wish, want))
                    break
            else:
                waiting.append(wish)
        if left.limited:
            left.limited -= {wish.id for wish, _ in admitted}
        return admitted, left

    def _within(self, wish: Wish, want: Want) -> float | None:
        """Eighths of the want; None when its group may not have so many more, 0 when there is no such shape."""
        size = self.counted.sizes[want.pool].get(want.shape, 0.0)
        share = self.groups.get(wish.group)
        if share is None or share.maximum is None:
            return size
        return None if self.counted.held[wish.group] + size > share.maximum else size

    def _promise(self, board: Board, wish: Wish, want: Want) -> bool:
        if wish.course is not None and self.kept:
            slots = self.kept.get((wish.course, want.pool, want.shape))
            if slots:
                board.hand(slots.pop(0))
                return True
        return board.promise(want.shape)

    def place(self, admitted: Iterable[tuple[Wish, Want]]) -> list[Grant]:
        """The slots of everybody who was admitted since the last time."""
        slots = {pool: iter(board.place()) for pool, board in self.boards.items()}
        return [Grant(wish.id, want, next(slots[want.pool])) for wish, want in admitted]
