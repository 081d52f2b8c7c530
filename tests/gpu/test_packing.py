"""Packing is exact: against exhaustive search, against HiGHS, against NVIDIA's documented counts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from specola.gpu import packing
from specola.gpu.adapters.profiles import BadTable, models, parse
from specola.gpu.board import room_for
from specola.gpu.geometry import WHOLE, Geometry, Shape

from . import packing_oracle as oracle

GEOMETRIES = {model.geometry.name: model.geometry for model in models().values()}
PROFILES = [(model, profile) for model in models().values() for profile in model.profiles.values()]


def edge(geometry: Geometry, gpus: Sequence[oracle.Gpu], chance: random.Random) -> tuple[Counter[str], str]:
    """What is promised until the first refusal, and what was refused: the two sides of the edge."""
    room = packing.room_of(geometry, gpus)
    for shape in oracle.some_shapes(geometry, chance):
        if not room.promise(shape):
            return Counter(room.promised), shape
    raise AssertionError("more was promised than there is")


def agree(geometry: Geometry, gpus: Sequence[oracle.Gpu], chance: random.Random) -> None:
    """Both sides of the edge are right, and what fits has a sound place."""
    need, refused = edge(geometry, gpus, chance)
    assert oracle.fits(geometry, gpus, need), (gpus, need)
    assert not oracle.fits(geometry, gpus, need + Counter([refused])), (gpus, need, refused)
    placed = packing.place(geometry, gpus, need)
    assert placed is not None
    assert Counter(shape for shape, _, _ in placed) == need
    for index, gpu in enumerate(gpus):
        new = [(start, geometry.size(shape), shape) for shape, at, start in placed if at == index]
        assert oracle.is_sound(geometry, [*gpu, *new]), (gpus, need, placed)


def many(name: str, numbers: range, gpus: Sequence[int]) -> None:
    geometry = GEOMETRIES[name]
    for number in numbers:
        chance = random.Random(f"{name} {number}")
        count = chance.choice(gpus)
        agree(geometry, [oracle.some_gpu(geometry, chance) for _ in range(count)], chance)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_count_agrees_with_exhaustive_search(name: str) -> None:
    """Two questions in each of 5,500 random states of every geometry: 33,000 in all."""
    many(name, range(5500), (1, 1, 1, 2))


@pytest.mark.soak
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_count_agrees_with_exhaustive_search_on_many_states(name: str) -> None:
    many(name, range(5500, 25000), (1, 2, 2, 3))
    many(name, range(60000, 60200), (4,))


def ask_highs(instances: list[dict[str, Any]]) -> list[bool]:
    program = Path(__file__).with_name("packing_highs.py")
    done = subprocess.run(
        [sys.executable, program], input=json.dumps(instances), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def instance(geometry: Geometry, gpus: Sequence[oracle.Gpu], need: Counter[str]) -> dict[str, Any]:
    shapes = {
        shape.name: {"size": shape.size, "starts": shape.starts, "counters": shape.counters}
        for shape in geometry.shapes.values()
    }
    return {"slots": geometry.slots, "capacity": geometry.capacity, "shapes": shapes, "gpus": gpus, "need": need}


def highs_agrees(numbers: range, most: int) -> None:
    instances: list[dict[str, Any]] = []
    expected: list[bool] = []
    for number in numbers:
        chance = random.Random(number)
        geometry = GEOMETRIES[chance.choice(list(GEOMETRIES))]
        gpus = [oracle.some_gpu(geometry, chance) for _ in range(chance.randint(2, most))]
        need, refused = edge(geometry, gpus, chance)
        instances += [instance(geometry, gpus, need), instance(geometry, gpus, need + Counter([refused]))]
        expected += [True, False]
    assert ask_highs(instances) == expected


def test_the_count_agrees_with_highs_on_many_gpus() -> None:
    """Two questions in each of 150 random states of two to eight GPUs."""
    highs_agrees(range(150), 8)


@pytest.mark.soak
def test_the_count_agrees_with_highs_on_more_gpus() -> None:
    highs_agrees(range(150, 2000), 12)


@pytest.mark.parametrize(("model", "profile"), PROFILES, ids=lambda one: getattr(one, "name", ""))
def test_the_documented_maximum_of_every_profile_follows_from_its_shape(model: Any, profile: Any) -> None:
    geometry = model.geometry
    assert packing.placeable(geometry, (), profile.shape) == profile.maximum
    assert oracle.fits(geometry, [()], {profile.shape: profile.maximum})
    assert not oracle.fits(geometry, [()], {profile.shape: profile.maximum + 1})


def test_there_are_86_profiles_of_twelve_models() -> None:
    assert (len(models()), len(PROFILES)) == (12, 86)


def test_the_counted_fragmentation_says_what_moving_would_gain() -> None:
    eight = GEOMETRIES["eight"]
    scattered = [((0, 1, "1g"),), ((4, 1, "1g"),)]
    found = packing.fragmentation(eight, scattered)
    assert found["7g"] == (0, 1)
    assert found["3g"] == (2, 3)
    assert found["1g"] == (12, 12)
    assert set(found) == {"1g", "1gx2", "2g", "3g", "4g", "7g"}
    assert packing.fragmentation(eight, [((0, 1),), ((4, 1),)])["7g"] == (0, 0)


def test_what_cannot_lie_where_it_lies_does_not_stop_the_count_of_fragments() -> None:
    """Two slices with media engines on one GPU: somebody else made them so."""
    eight = GEOMETRIES["eight"]
    found = packing.fragmentation(eight, [((0, 1, "1g+me"), (1, 1, "1g+me"))])
    assert found["3g"] == (1, 1)


def test_what_does_not_fit_has_no_place() -> None:
    four = GEOMETRIES["four"]
    assert packing.place(four, [()], {"2g": 3}) is None
    assert not packing.feasible(four, [()], {"1g": 5})
    assert packing.feasible(four, [(), ((0, 2),)], {WHOLE: 1, "2g": 1})
    assert packing.most(four, [(), ((0, 2),)], "1g") == 6


def test_whole_gpus_are_kept_whole_as_long_as_something_else_serves() -> None:
    eight = GEOMETRIES["eight"]
    gpus = [(), ((0, 4, "4g"),), ((4, 4, "3g"), (0, 2, "2g"))]
    assert packing.place(eight, gpus, {"3g": 1, "1g": 1, "1gx2": 1}) == (
        ("3g", 1, 4),
        ("1g", 2, 3),
        ("1gx2", 0, 6),
    ) or (packing.room_of(eight, gpus).count("7g") == 1)
    placed = packing.place(eight, gpus, {"3g": 1, "2g": 1})
    assert placed is not None
    assert {at for _, at, _ in placed} == {1, 2}


def test_a_whole_gpu_needs_an_empty_one() -> None:
    eight = GEOMETRIES["eight"]
    room = room_for(eight)
    assert room.starts(room.empty, WHOLE) == [0]
    assert room.starts(room.card([(6, 1)]), WHOLE) == []
    assert packing.is_whole(eight, WHOLE)
    assert packing.is_whole(eight, "7g")
    assert not packing.is_whole(eight, "4g")


def broken(**changes: Any) -> dict[str, Any]:
    """A small table that is right but for what is changed."""
    shapes = {
        "1g": {"size": 1, "starts": [0, 1, 2, 3], "profile_id": 14, "counters": {"compute": 1}},
        "4g": {"size": 4, "starts": [0], "profile_id": 0, "counters": {"compute": 4}},
    }
    model = {
        "geometry": "four",
        "pci_ids": [],
        "product_names": [],
        "evidence": {},
        "sources": ["doc"],
        "resetless_mig_toggle": False,
        "profiles": {"1g.6gb": {"shape": "1g", "max": 4, "sm": 14, "gib": 5.81}, "4g.24gb": {"shape": "4g", "max": 1}},
    }
    table = {
        "schema": 1,
        "sources": {"doc": "a guide"},
        "geometries": {"four": {"slots": 4, "capacity": {"compute": 4}, "shapes": shapes}},
        "models": {"A": model},
    }
    for path, value in changes.items():
        *way, last = path.split("__")
        place: Any = table
        for step in way:
            place = place[step]
        place[last] = value
    return table


def test_memory_that_nobody_has_read_is_a_little_less_than_the_name_says() -> None:
    profile = parse(broken())["A"].profiles["4g"]
    assert (profile.gib, profile.measured) == (22.8, False)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": 2}, "version 1"),
        ({"models__A__sources": ["rumour"]}, "no such source: rumour"),
        ({"models__A__profiles": {"1g.6gb": {"shape": "1g", "max": 5}}}, "4 of 1g.6gb fit, not 5"),
        ({"models__A__profiles": {"1g.6gb": {"shape": "9g", "max": 5}}}, "unknown shape"),
        ({"models__A__profiles": {"small": {"shape": "1g", "max": 4}}}, "not the name of a profile"),
        (
            {"models__A__profiles": {"1g.6gb": {"shape": "1g", "max": 4}, "1g.5gb": {"shape": "1g", "max": 4}}},
            "two profiles have one shape",
        ),
        ({"geometries__four__slots": 5}, "GPUs of 5 slots are not known"),
        ({"geometries__four__capacity": {"compute": 3}}, "needs more engines"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadTable, match=complaint):
        parse(broken(**changes))


def test_a_shape_off_the_gpu_or_off_the_grid_is_refused() -> None:
    shape = {"size": 2, "starts": [3], "profile_id": 1, "counters": {"compute": 2}}
    table = broken()
    table["geometries"]["four"]["shapes"]["2g"] = shape
    with pytest.raises(BadTable, match="does not lie on the GPU"):
        parse(table)
    table["geometries"]["four"]["shapes"]["2g"] = shape | {"starts": [1]}
    with pytest.raises(BadTable, match="does not lie on quarters"):
        parse(table)
    odd = Geometry("eight", 8, {"2g": Shape("2g", 2, (0, 2), 14)}, {})
    with pytest.raises(ValueError, match="not a shape of GPUs of eight slots"):
        packing.check(odd)
