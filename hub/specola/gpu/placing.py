"""Free room as something that can be promised piece by piece and placed at the end.

`promise` asks the closed form, so the order of promises decides who gets something, never where it lies; `place`
then finds a place for everything that was promised. It takes the fullest GPU and the smallest piece of room that
serves, so that whole GPUs and halves stay in one piece as long as they can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from specola.gpu import halves, quarters
from specola.gpu.geometry import WHOLE, Geometry, Shape

Taken = tuple[int, int] | tuple[int, int, str]
Place = tuple[int, int]
"""index of the GPU, start"""


class Room:
    """Free room of GPUs of one geometry, and what has been promised of it."""

    kinds: Mapping[str, int]
    width: int
    """number of kinds"""
    empty: int
    """a GPU with nothing on it"""
    engined: frozenset[int] = frozenset()
    """kinds that need more than room"""

    def __init__(self, geometry: Geometry, cards: Sequence[int]) -> None:
        self.geometry = geometry
        self.promised: list[str] = []
        self.need: list[int] = []
        self.cards: list[int] = []
        self.fill(cards)

    def keeps(self) -> Mapping[tuple[int, str], int]:
        """By start and shape: the bits of a card that stay when such a slice lies on it."""
        shapes = [*self.geometry.shapes.values(), Shape(WHOLE, self.geometry.slots, (0,), 0)]
        return {(start, shape.name): self.taking(-1, start, shape.name) for shape in shapes for start in shape.starts}

    def fill(self, cards: Sequence[int]) -> None:
        """Begin with these cards and nothing promised."""
        self.cards = list(cards)
        self.promised.clear()
        self.need = [0] * self.width
        self._count()

    def card(self, taken: Iterable[Taken]) -> int:
        """One GPU as the arithmetic sees it."""
        raise NotImplementedError

    def taking(self, card: int, start: int, shape: str) -> int:
        """The card with a slice more."""
        raise NotImplementedError

    def fits(self) -> bool:
        """Whether everything that is needed fits."""
        raise NotImplementedError

    def _count(self) -> None:
        raise NotImplementedError

    def _plain(self) -> list[list[Place]]:
        """Places for everything but the engined, by kind."""
        raise NotImplementedError

    def promise(self, shape: str) -> bool:
        """Set one more aside; False, and nothing changes, when there is no room for it."""
        kind = self.kinds[shape]
        need = self.need
        need[kind] += 1
        if self.fits():
            self.promised.append(shape)
            return True
        need[kind] -= 1
        return False

    def holds(self, need: Mapping[str, int]) -> bool:
        """Whether so many more of each would fit together."""
        kept = self.need
        self.need = list(kept)
        for shape, number in need.items():
            self.need[self.kinds[shape]] += number
        try:
            return self.fits()
        finally:
            self.need = kept

    def count(self, shape: str) -> int:
        """How many more of a shape fit."""
        low, high = 0, len(self.cards) * self.geometry.slots // self.geometry.size(shape)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.holds({shape: middle}) else (low, middle - 1)
        return low

    def place(self) -> list[Place]:
        """Where everything lies that was promised, in the order of the promises; the room is used up by that."""
        engined = {index: self._engine(shape) for index, shape in self._engined()}
        if engined:
            self._count()
        plain = self._plain()
        for places in plain:
            places.reverse()
        return [
            engined[index] if index in engined else plain[self.kinds[shape]].pop()
            for index, shape in enumerate(self.promised)
        ]

    def _engined(self) -> list[tuple[int, str]]:
        """Promises that need engines, larger ones first."""
        if not any(self.need[kind] for kind in self.engined):
            return []
        found = [(index, shape) for index, shape in enumerate(self.promised) if self.kinds[shape] in self.engined]
        return sorted(found, key=lambda pair: self.kinds[pair[1]])

    def _engine(self, shape: str) -> Place:
        """The first place, fullest card first, that leaves room for everything else; it is taken."""
        self.need[self.kinds[shape]] -= 1
        cards = self.cards
        distinct: dict[int, int] = {}
        for index, card in enumerate(cards):
            distinct.setdefault(card, index)
        for card in sorted(distinct, key=lambda card: (card & 0xFF).bit_count()):
            index = distinct[card]
            for start in self.starts(card, shape):
                cards[index] = self.taking(card, start, shape)
                self._count()
                if self.fits():
                    return index, start
            cards[index] = card
        raise AssertionError("what was promised has a place")

    def starts(self, card: int, shape: str) -> list[int]:
        """Where on a card a slice of this shape can lie."""
        raise NotImplementedError


class HalvesRoom(Room):
    """Room on GPUs of eight slots."""

    kinds = halves.KINDS
    width = 7
    empty = halves.EMPTY
    engined = frozenset({halves.KINDS["1g+me"]})

    def card(self, taken: Iterable[Taken]) -> int:
        """Free slots as bits, and the media engines."""
        card = halves.EMPTY
        for part in taken:
            card &= ~(((1 << part[1]) - 1) << part[0])
            if len(part) == 3 and part[2] in {"1g+me", "7g", WHOLE}:
                card &= ~halves.MEDIA
        return card

    def taking(self, card: int, start: int, shape: str) -> int:
        """Clear its slots and its engines."""
        card &= ~(((1 << self.geometry.size(shape)) - 1) << start)
        return card & ~halves.MEDIA if shape in {"1g+me", "7g", WHOLE} else card

    def starts(self, card: int, shape: str) -> list[int]:
        """Where it can lie."""
        if shape == WHOLE:
            return [0] if card == halves.EMPTY else []
        found = self.geometry.shapes[shape]
        if "media" in found.counters and not card & halves.MEDIA:
            return []
        bits = (1 << found.size) - 1
        return [start for start in found.starts if card >> start & bits == bits]

    def _count(self) -> None:
        self.units = halves.total(self.cards)
        self.media: halves.Media | None = None

    def fits(self) -> bool:
        """Ask the closed form."""
        if not self.need[6]:
            return halves.fits(self.units, self.need)
        if self.media is None:
            self.media = halves.Media.of(Counter(self.cards))
        return halves.fits_with_media(self.units, self.need, self.media)

    def _plain(self) -> list[list[Place]]:
        stock = halves.Stock(self.cards, self.need)
        return stock.serve()


class QuartersRoom(Room):
    """Room on GPUs of four quarters."""

    width = 9
    empty = quarters.EMPTY
    engined = frozenset({quarters.TWOS_ME, quarters.ONES_ME, quarters.TWOS_ALL, quarters.ONES_ALL})

    def __init__(self, geometry: Geometry, cards: Sequence[int]) -> None:
        self.kinds = quarters.kinds(geometry)
        self.unit = geometry.slots // 4
        super().__init__(geometry, cards)

    def card(self, taken: Iterable[Taken]) -> int:
        """Free slots as bits, and the media engines."""
        card = quarters.EMPTY
        for part in taken:
            first, last = part[0] // self.unit, (part[0] + part[1] - 1) // self.unit
            card &= ~(((1 << last - first + 1) - 1) << first)
            card &= ~quarters.USES[self.kinds[part[2]] if len(part) == 3 else quarters.ONES]
        return card

    def taking(self, card: int, start: int, shape: str) -> int:
        """Clear its slots and its engines."""
        number = self.geometry.size(shape) // self.unit
        return card & ~(((1 << number) - 1) << start // self.unit) & ~quarters.USES[self.kinds[shape]]

    def starts(self, card: int, shape: str) -> list[int]:
        """Where it can lie."""
        kind = self.kinds[shape]
        if card & quarters.NEEDS[kind] != quarters.NEEDS[kind]:
            return []
        number = self.geometry.size(shape) // self.unit
        bits = (1 << number) - 1
        return [start * self.unit for start in range(0, 4, number) if card >> start & bits == bits]

    def _count(self) -> None:
        self.free = quarters.Free.of(Counter(self.cards))

    def fits(self) -> bool:
        """Ask the closed form."""
        return quarters.fits(self.free, self.need)

    def _plain(self) -> list[list[Place]]:
        places = quarters.serve(self.cards, self.need)
        return [[(index, start * self.unit) for index, start in some] for some in places]


def check(geometry: Geometry) -> None:
    """ValueError when the arithmetic does not know this geometry."""
    if geometry.slots == 8:
        wanted = {shape: (size, starts) for shape, size, starts in halves.LAYOUT}
        for shape in geometry.shapes.values():
            if wanted.get(shape.name) != (shape.size, shape.starts):
                raise ValueError(f"{shape.name} is not a shape of GPUs of eight slots")
        return
    if geometry.slots % 4:
        raise ValueError(f"GPUs of {geometry.slots} slots are not known")
    unit = geometry.slots // 4
    for shape in geometry.shapes.values():
        if shape.size not in {unit, 2 * unit, 4 * unit} or shape.starts != _aligned(shape, geometry.slots):
            raise ValueError(f"{shape.name} does not lie on quarters")


def _aligned(shape: Shape, slots: int) -> tuple[int, ...]:
    return tuple(range(0, slots, shape.size))
