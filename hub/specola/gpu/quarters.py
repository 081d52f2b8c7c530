"""Exact packing on GPUs whose smallest slice is a quarter: A30 (four slots) and RTX PRO 6000 (twelve, in threes).

A free GPU is two free pairs of quarters, a pair two single quarters. Media engines add three things that a sum
cannot see, so the cards are kept by kind:

- one card has one set of engines for a slice with `+me`;
- a slice with `+me.all` takes every decoder, so that beside it only slices without any (`-me`) can lie: its card
  leaves the common room, and what is left on it is room for `-me` alone;
- which cards should leave is not settled by a rule of thumb where two are equally good for different reasons; those
  few numbers are tried from end to end.

A card is an int: free quarters as bits 0 to 3, bit 4 for free `+me` engines, bit 5 while ordinary slices may lie on
it, bit 6 while no decoder is in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from specola.gpu.geometry import WHOLE, Geometry, Shape

ENGINES, ORDINARY, UNUSED = 0x10, 0x20, 0x40
EMPTY = 0x7F
WHOLES, TWOS, ONES, TWOS_ME, ONES_ME, TWOS_ALL, ONES_ALL, TWOS_NONE, ONES_NONE = range(9)
"""kinds: plain ones, with `+me`, with `+me.all`, with `-me`"""

_QUARTERS = 0x0F
_USE = {TWOS_NONE: 0, ONES_NONE: 0, TWOS_ME: ENGINES | UNUSED, ONES_ME: ENGINES | UNUSED}
_EVERY = ENGINES | ORDINARY | UNUSED
_USE |= {WHOLES: _EVERY, TWOS_ALL: _EVERY, ONES_ALL: _EVERY}
USES = tuple(_USE.get(kind, UNUSED) for kind in range(9))
"""by kind: bits of a card that go with it"""
_NEED = {TWOS_NONE: 0, ONES_NONE: 0, TWOS_ME: ENGINES | ORDINARY, ONES_ME: ENGINES | ORDINARY}
_NEED |= {WHOLES: _EVERY, TWOS_ALL: _EVERY, ONES_ALL: _EVERY}
NEEDS = tuple(_NEED.get(kind, ORDINARY) for kind in range(9))
"""by kind: bits that a card must have for it"""
_SUFFIXES = {"": (TWOS, ONES), "me": (TWOS_ME, ONES_ME), "all": (TWOS_ALL, ONES_ALL), "none": (TWOS_NONE, ONES_NONE)}


def kinds(geometry: Geometry) -> Mapping[str, int]:
    """What every shape of a geometry counts as."""
    found = {WHOLE: WHOLES}
    for shape in geometry.shapes.values():
        size = 4 * shape.size // geometry.slots
        found[shape.name] = WHOLES if size == 4 else _SUFFIXES[_engines(geometry, shape)][size == 1]
    return found


def _engines(geometry: Geometry, shape: Shape) -> str:
    decoders = geometry.capacity.get("nvdec")
    if decoders is not None and shape.counters.get("nvdec", 0) in {0, decoders}:
        return "all" if shape.counters.get("nvdec") else "none"
    return "me" if {"media", "ofa"} & shape.counters.keys() else ""


def shape_of(card: int) -> tuple[int, int, int]:
    """Empty GPUs, pairs and single quarters of one card; each quarter counted once."""
    free = card & _QUARTERS
    if free == _QUARTERS:
        return (1, 0, 0)
    halves = (free & 3, free >> 2)
    return (0, sum(half == 3 for half in halves), sum(half in (1, 2) for half in halves))


SHAPES = tuple(shape_of(card) for card in range(EMPTY + 1))


@dataclass(slots=True)
class Free:
    """Free room of many cards, by what a slice with engines would find on them."""

    empty: int = 0
    pairs: int = 0
    singles: int = 0
    pairs_none: int = 0
    """on cards where only `-me` can lie"""
    singles_none: int = 0
    me_pair: int = 0
    """cards with free `+me` engines that have a pair and no single quarter; the empty ones are not among them"""
    me_both: int = 0
    me_single: int = 0
    all_one: int = 0
    """cards that could give all their engines to one slice: one quarter free"""
    all_apart: int = 0
    """two quarters, in different halves"""
    all_pair: int = 0
    all_both: int = 0
    """a pair and a quarter"""

    @classmethod
    def of(cls, classes: Counter[int]) -> Free:
        """Sort the cards, given as how many there are of each."""
        free = cls()
        for card, number in classes.items():
            empty, pairs, singles = SHAPES[card]
            if not card & ORDINARY:
                free.pairs_none += pairs * number
                free.singles_none += singles * number
                continue
            free.empty += empty * number
            free.pairs += pairs * number
            free.singles += singles * number
            if card & ENGINES and not empty:
                free._count(pairs, singles, number, unused=bool(card & UNUSED))
        return free

    def _count(self, pairs: int, singles: int, number: int, *, unused: bool) -> None:
        if pairs:
            self.me_both += number if singles else 0
            self.me_pair += 0 if singles else number
        elif singles:
            self.me_single += number
        if not unused:
            return
        if pairs:
            self.all_both += number if singles else 0
            self.all_pair += 0 if singles else number
        else:
            self.all_one += number if singles == 1 else 0
            self.all_apart += number if singles == 2 else 0


def fits(free: Free, need: Sequence[int]) -> bool:
    """Whether so many of each kind fit together."""
    if need[TWOS_ALL] or need[ONES_ALL]:
        return any(_fits(left, need) for left in _after_all(free, need))
    return _fits(free, need)


def _fits(free: Free, need: Sequence[int]) -> bool:
    empty = free.empty - need[WHOLES]
    if empty < 0:
        return False
    pairs = 2 * empty + free.pairs
    # what needs no engine goes where nothing else can
    spare = free.pairs_none - need[TWOS_NONE]
    pairs -= need[TWOS] + max(0, -spare)
    ones = need[ONES] + max(0, need[ONES_NONE] - free.singles_none - 2 * max(0, spare))
    # a pair with +me goes to cards without a single quarter first: one with +me finds room on the others
    alone = free.me_pair + empty
    over = max(0, need[TWOS_ME] - alone)
    split = max(0, need[ONES_ME] - (free.me_single + free.me_both - over))
    if over > free.me_both or split > alone - min(need[TWOS_ME], alone):
        return False
    pairs -= need[TWOS_ME] + split
    singles = free.singles - need[ONES_ME] + 2 * split
    return pairs >= 0 and ones <= singles + 2 * pairs


def _after_all(free: Free, need: Sequence[int]) -> Iterator[Free]:
    """What is left when the slices with `+me.all` lie, for every choice of cards that is not plainly worse."""
    empty = free.empty - need[WHOLES]
    twos = need[TWOS_ALL]
    for on_both in range(min(twos, free.all_both) + 1):
        for on_empty in range(max(0, min(twos - on_both, empty)) + 1):
            on_pair = twos - on_both - on_empty
            if on_pair <= free.all_pair:
                yield from _ones_all(_twos_all(free, on_pair, on_both, on_empty), need)


def _twos_all(free: Free, on_pair: int, on_both: int, on_empty: int) -> Free:
    return replace(
        free,
        empty=free.empty - on_empty,
        pairs=free.pairs - on_pair - on_both,
        singles=free.singles - on_both,
        pairs_none=free.pairs_none + on_empty,
        singles_none=free.singles_none + on_both,
        me_pair=free.me_pair - on_pair,
        me_both=free.me_both - on_both,
        all_pair=free.all_pair - on_pair,
        all_both=free.all_both - on_both,
    )


def _ones_all(free: Free, need: Sequence[int]) -> Iterator[Free]:
    wanted = need[ONES_ALL]
    for on_both in range(min(wanted, free.all_both) + 1):
        rest = wanted - on_both
        on_one = min(rest, free.all_one)
        on_apart = min(rest - on_one, free.all_apart)
        on_pair = min(rest - on_one - on_apart, free.all_pair)
        on_empty = rest - on_one - on_apart - on_pair
        if on_empty > free.empty - need[WHOLES]:
            continue
        yield replace(
            free,
            empty=free.empty - on_empty,
            pairs=free.pairs - on_both - on_pair,
            singles=free.singles - on_both - on_one - 2 * on_apart,
            pairs_none=free.pairs_none + on_both + on_empty,
            singles_none=free.singles_none + on_apart + on_pair + on_empty,
            me_pair=free.me_pair - on_pair,
            me_both=free.me_both - on_both,
            me_single=free.me_single - on_one - on_apart,
        )


def serve(cards: Sequence[int], need: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Places (index of the GPU, first quarter) for all that is needed, by kind; those with engines lie already."""
    stock = _Stock(cards)
    found: list[list[tuple[int, int]]] = [[] for _ in need]
    for _ in range(need[WHOLES]):
        found[WHOLES].append(stock.empty.pop())
    for kind, way in (
        (TWOS_NONE, stock.pair_none),
        (TWOS, stock.pair),
        (ONES_NONE, stock.single_none),
        (ONES, stock.single),
    ):
        found[kind] += [way() for _ in range(need[kind])]
    return found


class _Stock:
    """Pieces of free room, to be handed out in order of size."""

    def __init__(self, cards: Sequence[int]) -> None:
        self.empty: list[tuple[int, int]] = []
        # by whether only slices without engines can lie there
        self.pairs: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        self.singles: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        order = sorted(range(len(cards) - 1, -1, -1), key=lambda index: -(cards[index] & _QUARTERS).bit_count())
        for index in order:
            self._add(index, cards[index])

    def _add(self, index: int, card: int) -> None:
        if card & _QUARTERS == _QUARTERS:
            self.empty.append((index, 0))
            return
        none = not card & ORDINARY
        for start in (2, 0):
            half = card >> start & 3
            if half == 3:
                self.pairs[none].append((index, start))
            elif half:
                self.singles[none].append((index, start + half - 1))

    def pair(self) -> tuple[int, int]:
        if not self.pairs[False]:
            index, _ = self.empty.pop()
            self.pairs[False] += [(index, 2), (index, 0)]
        return self.pairs[False].pop()

    def pair_none(self) -> tuple[int, int]:
        return self.pairs[True].pop() if self.pairs[True] else self.pair()

    def single(self) -> tuple[int, int]:
        if not self.singles[False]:
            index, start = self.pair()
            self.singles[False] += [(index, start + 1), (index, start)]
        return self.singles[False].pop()

    def single_none(self) -> tuple[int, int]:
        if not self.singles[True] and self.pairs[True]:
            index, start = self.pairs[True].pop()
            self.singles[True] += [(index, start + 1), (index, start)]
        return self.singles[True].pop() if self.singles[True] else self.single()
