"""The selection on Dask workers: (file, entry range) chunks through ``client.map``, added up on the workers.

Within a chunk the branches are read *when they are needed and for the events that are left*: the trigger decides on two
branches, and the jets of an event without a lepton are never looked at. Only histograms and counters travel back.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import uproot
import vector

from specola_lab.vbs.selection import TREE, Result

if TYPE_CHECKING:
    from distributed import Client, Future

vector.register_awkward()


@dataclass(frozen=True)
class Chunk:
    """A range of entries of one file: the unit of work."""

    path: str
    start: int
    stop: int


def chunks(paths: Iterable[Path | str], size: int) -> list[Chunk]:
    """Cut files into chunks of at most ``size`` entries; an empty file gives none."""
    found = []
    for path in paths:
        with uproot.open(path) as file:
            entries = file[TREE].num_entries
        found += [Chunk(str(path), start, min(start + size, entries)) for start in range(0, entries, size)]
    return found


class Reader:
    """The branches of a chunk for the events that are still wanted."""

    def __init__(self, tree: Any, chunk: Chunk) -> None:
        self._tree = tree
        self._chunk = chunk
        self._alive = np.arange(chunk.stop - chunk.start)

    def keep(self, mask: Any) -> None:
        """Forget the events where ``mask`` is false; it has one value for each event that is left."""
        self._alive = self._alive[ak.to_numpy(mask)]

    def __call__(self, branch: str) -> ak.Array:
        """One branch of the events that are left, floats in double precision."""
        values = self._tree[branch].array(entry_start=self._chunk.start, entry_stop=self._chunk.stop)[self._alive]
        kind = ak.flatten(values, axis=None).layout.dtype
        return ak.values_astype(values, np.float64) if kind == np.float32 else values

    def particles(self, name: str, **extra: str) -> ak.Array:
        """A collection as Lorentz vectors with its charge (jets have none) and further variables, ``field=branch``."""
        fields = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", **extra}
        return ak.zip({field: self(f"{name}_{variable}") for field, variable in fields.items()}, with_name="Momentum4D")


class Tally:
    """Writes the cut flow of a chunk down while the events get fewer."""

    def __init__(self, weights: Any) -> None:
        self.result = Result()
        self.weights = ak.to_numpy(weights)
        self("all")

    def __call__(self, step: str, mask: Any | None = None) -> None:
        """Note a step; ``mask`` says which of the events that were left pass it."""
        if mask is not None:
            self.weights = self.weights[ak.to_numpy(mask)]
        self.result.counts[step] = len(self.weights)
        self.result.sums[step] = float(self.weights.sum())


def lepton_masks(read: Reader) -> tuple[ak.Array, ak.Array, ak.Array, ak.Array]:
    """Leptons (muons before electrons) of each event, and which are tight, triggered and loose."""
    muons = read.particles("Muon", charge="charge", tight="tightId", loose="looseId", isolation="pfRelIso04_all")
    electrons = read.particles("Electron", charge="charge", grade="cutBased")
    central = abs(muons.eta) < 2.4
    covered = abs(electrons.eta) < 2.5
    tight = [
        muons.tight & central & (muons.pt > 30) & (muons.isolation < 0.15),
        (electrons.grade == 4) & covered & (electrons.pt > 35),
    ]
    loose = [
        muons.loose & central & (muons.pt > 10) & (muons.isolation < 0.4),
        (electrons.grade >= 2) & covered & (electrons.pt > 10),
    ]
    fired = [
        ak.ones_like(muons.pt, dtype=bool) & read("HLT_IsoMu24"),
        ak.ones_like(electrons.pt, dtype=bool) & read("HLT_Ele32_WPTight_Gsf"),
    ]
    both = ak.concatenate(
        [muons[["pt", "eta", "phi", "mass", "charge"]], electrons[["pt", "eta", "phi", "mass", "charge"]]], axis=1
    )
    return (
        ak.with_name(both, "Momentum4D"),
        ak.concatenate(tight, axis=1),
        ak.concatenate(fired, axis=1),
        ak.concatenate(loose, axis=1),
    )


def select_lepton(read: Reader, tally: Tally) -> ak.Array:
    """The one tight lepton of the events that pass the steps up to ``veto``."""
    found, tight, fired, loose = lepton_masks(read)
    single = (ak.count_nonzero(tight, axis=1) == 1) & ak.any(tight & fired, axis=1)
    tally("lepton", single)
    alone = ~ak.any(loose & ~tight, axis=1)[single]
    tally("veto", alone)
    read.keep(single)
    read.keep(alone)
    return found[tight][single][alone][:, 0]


def select_tau(read: Reader, tally: Tally, lepton: ak.Array) -> tuple[ak.Array, ak.Array]:
    """Tau and lepton of the events that pass the steps up to ``charge``."""
    prefix = "idDeepTau2017v2p1VS"
    taus = read.particles(
        "Tau",
        charge="charge",
        dz="dz",
        mode="decayMode",
        not_jet=prefix + "jet",
        not_e=prefix + "e",
        not_mu=prefix + "mu",
    )
    taus = taus[(taus.pt > 30) & (abs(taus.eta) < 2.3) & (abs(taus.dz) < 0.2)]
    taus = taus[(taus.not_jet & 0b100000 != 0) & (taus.not_e & 0b100 != 0) & (taus.not_mu & 0b1000 != 0)]
    taus = taus[((taus.mode >= 0) & (taus.mode <= 1)) | ((taus.mode >= 10) & (taus.mode <= 11))]
    taus = taus[taus.deltaR(lepton) > 0.5]
    some = ak.num(taus) > 0
    tally("tau", some)
    taus, lepton = taus[some], lepton[some]
    largest = taus[ak.argmax(taus.pt, axis=1, keepdims=True)][:, 0]
    same = largest.charge == lepton.charge
    tally("charge", same)
    read.keep(some)
    read.keep(same)
    return largest[same], lepton[same]


def tag_jets(read: Reader, tally: Tally, lepton: ak.Array, tau: ak.Array) -> tuple[ak.Array, ak.Array]:
    """Tag jets of the events that pass the steps up to ``bveto``, as pairs, and the mask of those events."""
    jets = read.particles("Jet", b="btagDeepFlavB", identified="jetId", pileup="puId")
    jets = jets[(jets.pt > 30) & (abs(jets.eta) < 4.7) & (jets.identified & 0b10 != 0)]
    jets = jets[(jets.pileup & 0b100 != 0) | (jets.pt >= 50)]
    jets = jets[(jets.deltaR(lepton) > 0.4) & (jets.deltaR(tau) > 0.4)]
    enough = ak.num(jets) >= 2
    tally("jets", enough)
    no_b = ak.all((abs(jets.eta) >= 2.4) | (jets.b <= 0.2783), axis=1)[enough]
    tally("bveto", no_b)
    jets = jets[enough][no_b]
    read.keep(enough)
    read.keep(no_b)
    passed = ak.to_numpy(enough).copy()
    passed[passed] = ak.to_numpy(no_b)
    return jets[ak.argsort(-jets.pt, axis=1, stable=True)][:, :2], passed


def analyze(chunk: Chunk) -> Result:
    """Run the selection over one chunk; this is what a worker does."""
    with uproot.open(chunk.path) as file:
        read = Reader(file[TREE], chunk)
        tally = Tally(read("genWeight") * read("puWeight"))
        fired = read("HLT_IsoMu24") | read("HLT_Ele32_WPTight_Gsf")
        tally("trigger", fired)
        read.keep(fired)
        lepton = select_lepton(read, tally)
        tau, lepton = select_tau(read, tally, lepton)
        jets, passed = tag_jets(read, tally, lepton, tau)
        missing = vector.zip({"pt": read("MET_pt"), "phi": read("MET_phi")})
    return _finish(tally, jets, ak.zip({"lepton": lepton, "tau": tau}, depth_limit=1)[passed], missing)


def _finish(tally: Tally, jets: ak.Array, pair: ak.Array, missing: ak.Array) -> Result:
    first, second, lepton, tau = jets[:, 0], jets[:, 1], pair.lepton, pair.tau
    total = lepton.to_Vector2D() + tau.to_Vector2D() + missing
    transverse = np.sqrt(np.maximum(0, (lepton.pt + tau.pt + missing.pt) ** 2 - total.pt**2))
    left = ak.zip(
        {"met": missing.pt, "mjj": (first + second).mass, "deta": abs(first.deltaeta(second)), "mo1": transverse}
    )
    for step, threshold in (("met", 50), ("mjj", 500), ("deta", 2.5)):
        passed = left[step] > threshold
        tally(step, passed)
        left = left[passed]
    tally.result.mjj.fill(ak.to_numpy(left.mjj), weight=tally.weights)
    tally.result.mo1.fill(ak.to_numpy(left.mo1), weight=tally.weights)
    return tally.result


def add(results: Sequence[Result]) -> Result:
    """Sum of some results; runs on a worker as well."""
    return reduce(operator.add, results, Result())


def submit(client: Client, paths: Iterable[Path | str], size: int = 20_000, fan_in: int = 8) -> Future:
    """Start the analysis of files on the workers of ``client``; the future holds their one result."""
    partial = client.map(analyze, chunks(paths, size), pure=False)
    while len(partial) > 1:
        partial = client.map(
            add, [partial[start : start + fan_in] for start in range(0, len(partial), fan_in)], pure=False
        )
    return partial[0] if partial else client.submit(Result, pure=False)


def run(client: Client, paths: Iterable[Path | str], size: int = 20_000) -> Result:
    """Analyse files on the workers of ``client`` and wait for the result."""
    result: Result = submit(client, paths, size).result()
    return result
