"""One selection, three implementations: exactly the same answer."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import awkward as ak
import made_by_hand
import numpy as np
import pytest
import uproot
from distributed import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specola_lab.vbs import columnar, distributed, generator, loop
from specola_lab.vbs.selection import STEPS, Result

Implementation = Callable[[Path], Result]


def in_chunks(path: Path, size: int = 700) -> Result:
    """The distributed implementation without a cluster."""
    return distributed.add([distributed.analyze(chunk) for chunk in distributed.chunks([path], size)])


IMPLEMENTATIONS: dict[str, Implementation] = {"loop": loop.run, "columnar": columnar.run, "distributed": in_chunks}


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All events made by hand in one file, in their order."""
    return made_by_hand.write(
        tmp_path_factory.mktemp("vbs") / "by-hand.root", [event for _, event in made_by_hand.CASES.values()]
    )


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(process=st.sampled_from(sorted(generator.PROCESSES)), number=st.integers(0, 2500), seed=st.integers(0, 2**32))
def test_they_agree_exactly(tmp_path: Path, process: str, number: int, seed: int) -> None:
    """Cut flow, sums of weights and every bin are equal, whatever the events are."""
    path = generator.write(tmp_path / "events.root", process, number, seed)
    first, *others = (run(path) for run in IMPLEMENTATIONS.values())
    assert all(other == first for other in others)
    assert first.counts["all"] == number


@pytest.mark.parametrize("name", made_by_hand.CASES)
def test_each_cut_does_what_the_text_says(by_hand: Path, name: str) -> None:
    """The last step that an event passes is the one its name leads to expect."""
    index = list(made_by_hand.CASES).index(name)
    last = max((step for step, count in loop.run(by_hand, index, index + 1).counts.items() if count), key=STEPS.index)
    assert last == made_by_hand.CASES[name][0]


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_cut_flow_of_the_events_made_by_hand(by_hand: Path, name: str) -> None:
    """Every implementation loses each of them where it should."""
    last = [STEPS.index(step) for step, _ in made_by_hand.CASES.values()]
    expected = {step: sum(index >= position for index in last) for position, step in enumerate(STEPS)}
    assert IMPLEMENTATIONS[name](by_hand).counts == expected


def test_they_agree_on_the_events_made_by_hand(by_hand: Path) -> None:
    """In the bins and the sums, too."""
    first, *others = (run(by_hand) for run in IMPLEMENTATIONS.values())
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_masses_of_the_good_event(tmp_path: Path, name: str) -> None:
    """Both drawn quantities are those of a calculation by hand: two jets of 90 and 70 GeV, 5.5 apart."""
    result = IMPLEMENTATIONS[name](made_by_hand.write(tmp_path / "one.root", [made_by_hand.GOOD]))
    weight = -0.8125 * 1.125
    assert result.sums["deta"] == weight
    mass = np.sqrt(2 * 90 * 70 * (np.cosh(5.5) - np.cos(1.5)))  # the masses of the jets add less than a bin
    x = 45 * np.cos(0.1) + 50 * np.cos(2.0) + 80 * np.cos(-1.0)
    y = 45 * np.sin(0.1) + 50 * np.sin(2.0) + 80 * np.sin(-1.0)
    assert result.mjj[{"mjj": complex(0, mass)}].value == weight
    assert result.mo1[{"mo1": complex(0, np.sqrt((45 + 50 + 80) ** 2 - x**2 - y**2))}].value == weight


def test_dask_gives_the_same(tmp_path: Path, dask: Client) -> None:
    """Through a client, with more chunks than are added at once, over several files."""
    paths = [generator.write(tmp_path / f"{name}.root", name, 900, 5) for name in generator.PROCESSES]
    expected = sum((columnar.run(path) for path in paths), Result())
    assert distributed.run(dask, paths, size=300) == expected
    assert expected.counts["deta"] > 0


def test_dask_without_events(tmp_path: Path, dask: Client) -> None:
    """An empty file has no chunks and an empty result."""
    empty = generator.write(tmp_path / "empty.root", "ssww", 0, 1)
    assert distributed.chunks([empty], 100) == []
    assert distributed.run(dask, [empty]) == Result()


def test_chunks_cover_every_entry_once(tmp_path: Path) -> None:
    """Entry ranges follow each other without gap or overlap."""
    path = generator.write(tmp_path / "events.root", "wjets", 1003, 1)
    found = distributed.chunks([path], 250)
    assert [chunk.start for chunk in found] == [0, *(chunk.stop for chunk in found[:-1])]
    assert found[-1].stop == 1003


def test_results_differ_when_anything_differs() -> None:
    """Equality of results looks at everything, and at nothing that is no result."""
    one, other = Result(), Result()
    assert one == other
    other.mjj.fill(600.0, weight=1.0)
    assert one != other
    assert one != "something else"


def test_the_same_seed_gives_the_same_events() -> None:
    """The generator is deterministic, and each process and seed has events of its own."""
    one, again, other = (generator.events("ttbar", 500, seed) for seed in (3, 3, 4))
    assert all(ak.array_equal(one[name], again[name]) for name in one)
    assert not ak.array_equal(one["MET_pt"], other["MET_pt"])
    assert not ak.array_equal(one["MET_pt"], generator.events("wjets", 500, 3)["MET_pt"])


def test_sums_of_weights_are_exact() -> None:
    """The floating-point sum of the weights is the sum of the fractions that they are, forwards and backwards."""
    events = generator.events("ssww", 5000, 2)
    weights = np.asarray(events["genWeight"], np.float64) * np.asarray(events["puWeight"], np.float64)
    exact = sum(Fraction(weight) for weight in weights.tolist())
    assert Fraction(float(weights.sum())) == exact == Fraction(float(weights[::-1].sum()))
    assert (weights < 0).any()


def test_collections_come_sorted_and_with_their_counter(tmp_path: Path) -> None:
    """As in NanoAOD: largest pt first, ``nJet`` tells how many, ``Runs`` holds the sum of the generator weights."""
    path = generator.write(tmp_path / "deep" / "events.root", "ttbar", 300, 1)
    with uproot.open(path) as file:
        assert set(file.keys(cycle=False)) == {"Events", "Runs"}
        jets = file["Events"].arrays(["nJet", "Jet_pt", "genWeight"])
        assert ak.all(jets.Jet_pt[:, :-1] >= jets.Jet_pt[:, 1:])
        assert ak.all(jets.nJet == ak.num(jets.Jet_pt))
        assert file["Runs"]["genEventSumw"].array()[0] == ak.sum(ak.values_astype(jets.genWeight, float))
    assert [found.name for found in path.parent.iterdir()] == ["events.root"]


def test_backgrounds_are_suppressed(tmp_path: Path) -> None:
    """The selection keeps the signal and loses the others by more than a factor of ten."""
    kept = {}
    for name in generator.PROCESSES:
        kept[name] = columnar.run(generator.write(tmp_path / f"{name}.root", name, 5000, 9)).counts["deta"]
    signal = kept.pop("ssww")
    assert signal > 100
    assert all(signal > 10 * background for background in kept.values())
