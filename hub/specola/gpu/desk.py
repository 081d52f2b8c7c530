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

_EVERYBODY = GroupShare()


@dataclass(frozen=True, slots=True)
class Left:
    """A wish that could not be admitted."""

    wish: Wish
    limited: bool
    """the maximum of its group stands in the way, and not only the room"""


@dataclass(slots=True)
class Desk:
    """Boards of all pools, and what the groups hold."""

    boards: Mapping[str, Board]
    counted: Census
    groups: Mapping[str, GroupShare]
    kept: dict[Seat, list[Slot]] = field(default_factory=dict)
    """slices set aside for courses in their hours"""

    def admit(self, line: Sequence[Wish]) -> tuple[list[tuple[Wish, Want]], list[Left]]:
        """Who gets what, and who has to wait; promised on the boards."""
        admitted: list[tuple[Wish, Want]] = []
        left: list[Left] = []
        held, sizes = self.counted.held, self.counted.sizes
        boards = self.boards
        most: dict[str, float | None] = {}
        for wish in line:
            group = wish.group
            if group not in most:
                most[group] = self.groups.get(group, _EVERYBODY).maximum
            maximum, limited = most[group], False
            for want in wish.wants:
                board = boards.get(want.pool)
                if board is None or (want.shape in board.dead and not self.kept):
                    continue
                size = sizes[want.pool].get(want.shape)
                if size is None:
                    continue
                if maximum is not None and held[group] + size > maximum:
                    limited = True
                elif self._promise(board, wish, want):
                    held[group] += size
                    admitted.append((wish, want))
                    break
            else:
                left.append(Left(wish, limited))
        return admitted, left

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
