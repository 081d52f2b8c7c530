"""Exact packing on GPUs of eight slots (A100 to B300): halves, pairs and single slots.

Shapes are aligned powers of two, so whether a set of them fits can be counted instead of searched. A free half is
two free pairs; the last pair (slots 6 and 7) takes a `1gx2` or one `1g`, and no `2g`: it is counted apart as
*restricted*. In order of size every shape takes the room that is of least use to the smaller ones: `3g` the high
halves first, `1gx2` the restricted pairs first; a restricted pair is never worth more than a pair, a high half is a
pair and a restricted pair, a low half two pairs.

`1g+me` needs the media engines, of which a GPU has one set: no two of them lie on one GPU, so the cards matter and
not only their sum. One number stays open then, how many `3g` go to low halves although high ones are free; it is
tried from end to end.

A card is an int: the free slots as bits 0 to 7, bit 8 for free media engines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specola.gpu.geometry import WHOLE

MEDIA = 0x100
EMPTY = 0x1FF
LAYOUT = (
    ("1g", 1, (0, 1, 2, 3, 4, 5, 6)),
    ("1g+me", 1, (0, 1, 2, 3, 4, 5, 6)),
    ("1gx2", 2, (0, 2, 4, 6)),
    ("2g", 2, (0, 2, 4)),
    ("3g", 4, (0, 4)),
    ("4g", 4, (0,)),
    ("7g", 8, (0,)),
)
"""shape, size, starts: the only tables that the arithmetic below is right for"""
KINDS = {"7g": 0, WHOLE: 0, "4g": 1, "3g": 2, "2g": 3, "1gx2": 4, "1g": 5, "1g+me": 6}
"""what a shape counts as, largest first"""

_LOW, _HIGH, _ALL = 0x0F, 0xF0, 0xFF
_WIDTH = 16
_FIELD = (1 << _WIDTH) - 1

Units = tuple[int, int, int, int, int, int]
"""empty GPUs, low halves, high halves, pairs, restricted pairs, single slots; each free slot counted once"""


def _units(card: int) -> Units:
    free = card & _ALL
    if free == _ALL:
        return (1, 0, 0, 0, 0, 0)
    low, high = free & _LOW == _LOW, free & _HIGH == _HIGH
    pairs = singles = 0
    for start in (0, 2, 4):
        if (low and start < 4) or (high and start == 4):
            continue
        taken = free >> start & 3
        pairs += taken == 3
        singles += taken in (1, 2)
    last = 0 if high else free >> 6
    return (0, int(low), int(high), pairs, int(last == 3), singles + int(last == 1))


UNITS: tuple[Units, ...] = tuple(_units(card) for card in range(EMPTY + 1))
_PACKED = tuple(sum(value << _WIDTH * index for index, value in enumerate(units)) for units in UNITS)


def total(cards: Iterable[int]) -> Units:
    """The free room of all cards; up to 16,000 of them."""
    packed = sum(map(_PACKED.__getitem__, cards))
    empty, low, high, pairs, last, singles = (packed >> _WIDTH * index & _FIELD for index in range(6))
    return (empty, low, high, pairs, last, singles)


def fits(units: Units, need: Sequence[int]) -> bool:
    """Whether so many of each kind fit together; without `1g+me`."""
    empty, low, high, pairs, last, singles = units
    wholes, fours, threes, twos, doubles, ones, _ = need
    empty -= wholes
    low += empty - fours
    high += empty - threes
    if high < 0:
        low += high
        high = 0
    if empty < 0 or low < 0:
        return False
    pairs += 2 * low + high - twos
    last += high - doubles
    if pairs < 0:
        return False
    if last < 0:
        pairs += last
        last = 0
    return pairs >= 0 and ones <= singles + last + 2 * pairs


@dataclass(slots=True)
class Media:
    """Cards with free media engines by what else is free on them: where a `1g+me` could lie, and what it would cost.

    A card with a single free slot serves at no further cost. Of the others it matters which of their halves are
    free, and whether the rest has pairs, a restricted pair only, or nothing.
    """

    with_single: int = 0
    low_with_pair: int = 0
    low_with_last: int = 0
    low_alone: int = 0
    high_with_pair: int = 0
    high_alone: int = 0
    pair: int = 0
    pair_and_last: int = 0
    last: int = 0
    free_lows: int = 0
    """low halves whose use costs no `1g+me` its place"""
    free_highs: int = 0

    @classmethod
    def of(cls, classes: Counter[int]) -> Media:
        """Sort the cards, given as how many there are of each."""
        media = cls()
        for card, number in classes.items():
            _, low, high, pairs, last, singles = UNITS[card]
            if not card & MEDIA or singles:
                media.free_lows += low * number
                media.free_highs += high * number
                media.with_single += number if card & MEDIA else 0
            elif name := _kind_of(low, high, pairs, last):
                setattr(media, name, getattr(media, name) + number)
        return media


def _kind_of(low: int, high: int, pairs: int, last: int) -> str:
    if low:
        return "low_with_pair" if pairs else "low_with_last" if last else "low_alone"
    if high:
        return "high_with_pair" if pairs else "high_alone"
    if pairs:
        return "pair_and_last" if last else "pair"
    return "last" if last else ""


def fits_with_media(units: Units, need: Sequence[int], media: Media) -> bool:
    """`fits`, with `1g+me` among what is needed."""
    empty = units[0] - need[0]
    low, high = units[1] + empty - need[1], units[2] + empty
    if empty < 0 or low < 0 or low + high < need[2]:
        return False
    return any(
        _fits_given(units, need, media, threes_low)
        for threes_low in range(max(0, need[2] - high), min(need[2], low) + 1)
    )


def _fits_given(units: Units, need: Sequence[int], media: Media, threes_low: int) -> bool:
    """With so many `3g` on low halves: serve `1g+me` where it costs least, then count as always."""
    empty, low, high, pairs, last, singles = units
    wholes, fours, threes, twos, doubles, ones, wanted = need
    empty -= wholes
    lows, highs = fours + threes_low, threes - threes_low
    places, last_only, with_last = _places(empty, lows, highs, media)
    at_single = min(wanted, media.with_single)
    rest = wanted - at_single
    if rest > places:
        return False
    low, high = low + empty - lows, high + empty - highs
    pairs += 2 * low + high - twos
    last += high
    # a restricted pair that no 1gx2 needs is the cheapest place, as far as the cards allow
    on_last = min(max(last - doubles, rest - (places - last_only), 0), rest, with_last)
    pairs -= rest - on_last
    singles += rest - on_last - at_single
    last -= on_last + doubles
    if pairs < 0:
        return False
    if last < 0:
        pairs += last
        last = 0
    return pairs >= 0 and ones <= singles + last + 2 * pairs


def _places(empty: int, lows: int, highs: int, media: Media) -> tuple[int, int, int]:
    """Cards without a single slot that can still take a `1g+me` when so many halves are used.

    All of them, those where only the restricted pair is left, and those that have one.
    """
    more_lows = max(0, lows - media.free_lows - media.low_with_pair)
    more_highs = max(0, highs - media.free_highs - media.high_with_pair)
    # one half of an empty GPU may go: the other half serves
    short = max(0, more_lows + more_highs - empty)
    bared = min(short, media.low_with_last, more_lows)
    places = empty + media.low_with_pair + media.low_with_last + media.low_alone + media.high_with_pair
    places += media.high_alone + media.pair + media.pair_and_last + media.last - (short - bared)
    left_highs = media.high_alone + media.high_with_pair + empty - max(0, highs - media.free_highs)
    with_last = media.last + media.pair_and_last + media.low_with_last + left_highs
    return places, media.last + bared, with_last


_EMPTY, _LOWS, _HIGHS, _PAIRS, _LASTS, _SINGLES = range(6)


def _places_of(card: int) -> tuple[tuple[int, int], ...]:
    """(index in Units, start) of every piece of room on a card."""
    empty, low, high, _, last, _ = UNITS[card]
    if empty:
        return ((_EMPTY, 0),)
    found = [(_LOWS, 0)] * low + [(_HIGHS, 4)] * high + [(_LASTS, 6)] * last
    for start in (0, 2, 4):
        if (low and start < 4) or (high and start == 4):
            continue
        taken = card >> start & 3
        if taken == 3:
            found.append((_PAIRS, start))
        elif taken:
            found.append((_SINGLES, start + taken - 1))
    if not high and card >> 6 & 3 == 1:
        found.append((_SINGLES, 6))
    return tuple(found)


_PLACES = tuple(_places_of(card) for card in range(EMPTY + 1))


class Stock:
    """Pieces of free room, to be handed out in order of size; each piece is (index of the GPU, start)."""

    def __init__(self, cards: Sequence[int], need: Sequence[int]) -> None:
        self.need = list(need)
        self.pieces: list[list[tuple[int, int]]] = [[] for _ in range(6)]
        # handed out from the end: the fullest GPU first, of two equal ones the first
        free = [index for index in range(len(cards) - 1, -1, -1) if cards[index] & _ALL]
        free.sort(key=lambda index: -(cards[index] & _ALL).bit_count())
        for index in free:
            for kind, start in _PLACES[cards[index]]:
                self.pieces[kind].append((index, start))

    def serve(self) -> list[list[tuple[int, int]]]:
        """Places for all that is needed, by kind; `1g+me` has been served before."""
        ways = (self._whole, self._low, self._three, self._pair, self._double, self._one)
        found: list[list[tuple[int, int]]] = [[] for _ in self.need]
        for kind, way in enumerate(ways):
            for _ in range(self.need[kind]):
                self.need[kind] -= 1
                found[kind].append(way())
        return found

    def _fits_without(self, kind: int) -> bool:
        """Whether the rest fits when one of these pieces goes."""
        empty, lows, highs, pairs, lasts, singles = map(len, self.pieces)
        lows -= kind == _LOWS
        pairs -= kind == _PAIRS
        return fits((empty, lows, highs, pairs, lasts, singles), (*self.need[:6], 0))

    def _whole(self) -> tuple[int, int]:
        return self.pieces[_EMPTY].pop()

    def _low(self) -> tuple[int, int]:
        if self.pieces[_LOWS]:
            return self.pieces[_LOWS].pop()
        index, _ = self.pieces[_EMPTY].pop()
        self.pieces[_HIGHS].append((index, 4))
        return index, 0

    def _high(self) -> tuple[int, int]:
        if self.pieces[_HIGHS]:
            return self.pieces[_HIGHS].pop()
        index, _ = self.pieces[_EMPTY].pop()
        self.pieces[_LOWS].append((index, 0))
        return index, 4

    def _three(self) -> tuple[int, int]:
        if self.pieces[_HIGHS] or (self.pieces[_EMPTY] and not (self.pieces[_LOWS] and self._fits_without(_LOWS))):
            return self._high()
        return self._low()

    def _pair(self) -> tuple[int, int]:
        if not self.pieces[_PAIRS]:
            self._break_half()
        return self.pieces[_PAIRS].pop()

    def _break_half(self) -> None:
        """Make pairs of a half: of a high one, which is worth less, before a low one, before an empty GPU."""
        if self.pieces[_HIGHS] or not self.pieces[_LOWS]:
            index, _ = self._high()
            self.pieces[_LASTS].append((index, 6))
            self.pieces[_PAIRS].append((index, 4))
        else:
            index, _ = self.pieces[_LOWS].pop()
            self.pieces[_PAIRS] += [(index, 2), (index, 0)]

    def _double(self) -> tuple[int, int]:
        lasts, pairs = self.pieces[_LASTS], self.pieces[_PAIRS]
        if lasts:
            return lasts.pop()
        if not (self.pieces[_HIGHS] or self.pieces[_EMPTY]) or (pairs and self._fits_without(_PAIRS)):
            return self._pair()
        index, _ = self._high()
        pairs.append((index, 4))
        return index, 6

    def _one(self) -> tuple[int, int]:
        singles, lasts = self.pieces[_SINGLES], self.pieces[_LASTS]
        if singles:
            return singles.pop()
        if not lasts and not self.pieces[_PAIRS]:
            self._break_half()
        if lasts:
            return lasts.pop()
        index, start = self.pieces[_PAIRS].pop()
        singles.append((index, start + 1))
        return index, start
