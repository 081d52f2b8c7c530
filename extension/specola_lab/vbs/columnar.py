"""The selection on whole columns with awkward arrays: every cut is one array expression over the events of a chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from specola_lab.vbs.selection import TREE, Result

COLLECTIONS = {
    "Muon": ("pt", "eta", "phi", "charge", "tightId", "looseId", "pfRelIso04_all"),
    "Electron": ("pt", "eta", "phi", "charge", "cutBased"),
    "Tau": (
        "pt",
        "eta",
        "phi",
        "charge",
        "dz",
        "decayMode",
        *(f"idDeepTau2017v2p1{against}" for against in ("VSjet", "VSe", "VSmu")),
    ),
    "Jet": ("pt", "eta", "phi", "mass", "btagDeepFlavB", "jetId", "puId"),
}
SCALARS = ("HLT_IsoMu24", "HLT_Ele32_WPTight_Gsf", "genWeight", "puWeight", "MET_pt", "MET_phi")
BRANCHES = SCALARS + tuple(f"{name}_{variable}" for name, variables in COLLECTIONS.items() for variable in variables)


def collection(events: ak.Array, name: str) -> ak.Array:
    """The branches of a collection as one array of records, its floats in double precision."""
    columns = {variable: events[f"{name}_{variable}"] for variable in COLLECTIONS[name]}
    return ak.zip({variable: _double(column) for variable, column in columns.items()})


def _double(column: ak.Array) -> ak.Array:
    return ak.values_astype(column, np.float64) if "float32" in str(column.type) else column


def distance(ones: ak.Array, others: ak.Array) -> ak.Array:
    """Distance in pseudorapidity and azimuth, with broadcasting."""
    turn = np.abs(ones.phi - others.phi)
    return np.hypot(ones.eta - others.eta, np.minimum(turn, 2 * np.pi - turn))


def leptons(events: ak.Array) -> tuple[ak.Array, ak.Array]:
    """Tight leptons, ``fired`` tells whether the trigger of each did, and the number of other loose leptons."""
    muons, electrons = collection(events, "Muon"), collection(events, "Electron")
    muon_tight = (muons.pt > 30) & (abs(muons.eta) < 2.4) & muons.tightId & (muons.pfRelIso04_all < 0.15)
    muon_loose = (muons.pt > 10) & (abs(muons.eta) < 2.4) & muons.looseId & (muons.pfRelIso04_all < 0.4)
    electron_tight = (electrons.pt > 35) & (abs(electrons.eta) < 2.5) & (electrons.cutBased == 4)
    electron_loose = (electrons.pt > 10) & (abs(electrons.eta) < 2.5) & (electrons.cutBased >= 2)
    kept = ("pt", "eta", "phi", "charge")
    tight_muons, tight_electrons = muons[muon_tight][[*kept]], electrons[electron_tight][[*kept]]
    tight_muons["fired"] = ak.broadcast_arrays(events.HLT_IsoMu24, tight_muons.pt)[0]
    tight_electrons["fired"] = ak.broadcast_arrays(events.HLT_Ele32_WPTight_Gsf, tight_electrons.pt)[0]
    others = ak.sum(muon_loose & ~muon_tight, axis=1) + ak.sum(electron_loose & ~electron_tight, axis=1)
    return ak.concatenate([tight_muons, tight_electrons], axis=1), others


def good_taus(events: ak.Array, lepton: ak.Array) -> ak.Array:
    """Good taus away from the lepton."""
    taus = collection(events, "Tau")
    mode = (taus.decayMode == 0) | (taus.decayMode == 1) | (taus.decayMode == 10) | (taus.decayMode == 11)
    identified = (
        (taus.idDeepTau2017v2p1VSjet & 32 > 0)
        & (taus.idDeepTau2017v2p1VSe & 4 > 0)
        & (taus.idDeepTau2017v2p1VSmu & 8 > 0)
    )
    kinematics = (taus.pt > 30) & (abs(taus.eta) < 2.3) & (abs(taus.dz) < 0.2)
    return taus[kinematics & mode & identified & (distance(taus, lepton) > 0.5)]


def good_jets(events: ak.Array, lepton: ak.Array, tau: ak.Array) -> ak.Array:
    """Good jets away from lepton and tau, largest pt first."""
    jets = collection(events, "Jet")
    identified = (jets.jetId & 2 > 0) & ((jets.pt >= 50) | (jets.puId & 4 > 0))
    jets = jets[
        (jets.pt > 30)
        & (abs(jets.eta) < 4.7)
        & identified
        & (distance(jets, lepton) > 0.4)
        & (distance(jets, tau) > 0.4)
    ]
    return jets[ak.argsort(-jets.pt, axis=1, stable=True)]


def dijet_mass(one: ak.Array, two: ak.Array) -> ak.Array:
    """Invariant mass of pairs of jets, from the masses and the scalar products."""
    energy_one, energy_two = (
        np.hypot(one.pt * np.cosh(one.eta), one.mass),
        np.hypot(two.pt * np.cosh(two.eta), two.mass),
    )
    product = one.pt * two.pt * (np.cos(one.phi - two.phi) + np.sinh(one.eta) * np.sinh(two.eta))
    return np.sqrt(np.maximum(0, one.mass**2 + two.mass**2 + 2 * (energy_one * energy_two - product)))


def transverse_mass(lepton: ak.Array, tau: ak.Array, missing: ak.Array) -> ak.Array:
    """Transverse mass of lepton, tau and missing momentum, from the opening angles."""
    pairs = ((lepton, tau), (lepton, missing), (tau, missing))
    return np.sqrt(2 * sum(one.pt * two.pt * (1 - np.cos(one.phi - two.phi)) for one, two in pairs))


def select(events: ak.Array) -> Result:
    """Run the selection over the events of one chunk."""
    result = Result()

    def count(step: str, kept: ak.Array) -> None:
        result.counts[step] = len(kept)
        result.sums[step] = float(ak.sum(kept.weight))

    events["weight"] = _double(events.genWeight) * _double(events.puWeight)
    count("all", events)
    events = events[events.HLT_IsoMu24 | events.HLT_Ele32_WPTight_Gsf]
    count("trigger", events)
    tight, others = leptons(events)
    single = (ak.num(tight) == 1) & ak.fill_none(ak.firsts(tight.fired), value=False)
    events["lepton"] = ak.firsts(tight)
    count("lepton", events[single])
    events = events[single & (others == 0)]
    count("veto", events)
    taus = good_taus(events, events.lepton)
    events["tau"] = ak.firsts(taus[ak.argmax(taus.pt, axis=1, keepdims=True)])
    events = events[ak.num(taus) > 0]
    count("tau", events)
    events = events[events.tau.charge == events.lepton.charge]
    count("charge", events)
    return _select_jets(events, result, count)


def _select_jets(events: ak.Array, result: Result, count: Any) -> Result:
    events["jets"] = good_jets(events, events.lepton, events.tau)
    events = events[ak.num(events.jets) >= 2]
    count("jets", events)
    events = events[~ak.any((abs(events.jets.eta) < 2.4) & (events.jets.btagDeepFlavB > 0.2783), axis=1)]
    count("bveto", events)
    events = events[_double(events.MET_pt) > 50]
    count("met", events)
    one, two = events.jets[:, 0], events.jets[:, 1]
    events["mjj"] = dijet_mass(one, two)
    events["deta"] = abs(one.eta - two.eta)
    events = events[events.mjj > 500]
    count("mjj", events)
    events = events[events.deta > 2.5]
    count("deta", events)
    missing = ak.zip({"pt": _double(events.MET_pt), "phi": _double(events.MET_phi)})
    result.mjj.fill(ak.to_numpy(events.mjj), weight=ak.to_numpy(events.weight))
    result.mo1.fill(ak.to_numpy(transverse_mass(events.lepton, events.tau, missing)), weight=ak.to_numpy(events.weight))
    return result


def run(path: Path | str, start: int = 0, stop: int | None = None, step: int = 50_000) -> Result:
    """Analyse the entries ``start`` to ``stop`` of a file, ``step`` at a time."""
    with uproot.open(path) as file:
        chunks = file[TREE].iterate(BRANCHES, step_size=step, entry_start=start, entry_stop=stop)
        return sum((select(events) for events in chunks), Result())
