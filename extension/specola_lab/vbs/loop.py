"""The selection event by event with an object per particle, the way analyses on nanoAOD-tools are written.

nanoAOD-tools reads through PyROOT; here uproot reads the branches and hands over plain Python numbers a few thousand
events at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uproot

from specola_lab.vbs.selection import TREE, Result

BRANCHES = (
    *(
        "HLT_IsoMu24",
        "HLT_Ele32_WPTight_Gsf",
        "genWeight",
        "puWeight",
        "MET_pt",
        "MET_phi",
        "nMuon",
        "nElectron",
        "nTau",
        "nJet",
    ),
    *(f"Muon_{name}" for name in ("pt", "eta", "phi", "charge", "tightId", "looseId", "pfRelIso04_all")),
    *(f"Electron_{name}" for name in ("pt", "eta", "phi", "charge", "cutBased")),
    *(f"Tau_{name}" for name in ("pt", "eta", "phi", "charge", "dz", "decayMode")),
    *(f"Tau_idDeepTau2017v2p1{against}" for against in ("VSjet", "VSe", "VSmu")),
    *(f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "btagDeepFlavB", "jetId", "puId")),
)


class Event:
    """One entry of the tree; branches are attributes."""

    def __init__(self, columns: dict[str, list[Any]], index: int) -> None:
        self._columns = columns
        self._index = index

    def __getattr__(self, branch: str) -> Any:
        """Value of a branch in this event."""
        return self._columns[branch][self._index]

    def collection(self, name: str) -> list[Particle]:
        """The particles of a collection, in the order of the file."""
        return [Particle(self, name, index) for index in range(getattr(self, f"n{name}"))]


class Particle:
    """One particle of an event; ``particle.pt`` is ``Collection_pt[i]``."""

    def __init__(self, event: Event, name: str, index: int) -> None:
        self._event = event
        self._prefix = name + "_"
        self._index = index

    def __getattr__(self, name: str) -> Any:
        """Value of a variable of this particle."""
        return getattr(self._event, self._prefix + name)[self._index]

    def distance(self, other: Particle) -> float:
        """Distance in pseudorapidity and azimuth."""
        turn = abs(self.phi - other.phi)
        return math.hypot(self.eta - other.eta, 2 * math.pi - turn if turn > math.pi else turn)


def tight_muon(muon: Particle) -> bool:
    """Tight muon of the selection."""
    return bool(muon.pt > 30 and abs(muon.eta) < 2.4 and muon.tightId and muon.pfRelIso04_all < 0.15)


def tight_electron(electron: Particle) -> bool:
    """Tight electron of the selection."""
    return bool(electron.pt > 35 and abs(electron.eta) < 2.5 and electron.cutBased == 4)


def loose_muon(muon: Particle) -> bool:
    """Muon that vetoes the event."""
    return bool(muon.pt > 10 and abs(muon.eta) < 2.4 and muon.looseId and muon.pfRelIso04_all < 0.4)


def loose_electron(electron: Particle) -> bool:
    """Electron that vetoes the event."""
    return bool(electron.pt > 10 and abs(electron.eta) < 2.5 and electron.cutBased >= 2)


def good_tau(tau: Particle) -> bool:
    """Good tau of the selection, apart from its distance to the lepton."""
    if not (tau.pt > 30 and abs(tau.eta) < 2.3 and abs(tau.dz) < 0.2 and tau.decayMode in {0, 1, 10, 11}):
        return False
    return bool(tau.idDeepTau2017v2p1VSjet & 32 and tau.idDeepTau2017v2p1VSe & 4 and tau.idDeepTau2017v2p1VSmu & 8)


def good_jet(jet: Particle) -> bool:
    """Good jet of the selection, apart from its distance to lepton and tau."""
    return bool(jet.pt > 30 and abs(jet.eta) < 4.7 and jet.jetId & 2 and (jet.pt >= 50 or jet.puId & 4))


def dijet_mass(one: Particle, two: Particle) -> float:
    """Invariant mass of two jets."""
    energy = px = py = pz = 0.0
    for jet in (one, two):
        px += jet.pt * math.cos(jet.phi)
        py += jet.pt * math.sin(jet.phi)
        pz += jet.pt * math.sinh(jet.eta)
        energy += math.sqrt((jet.pt * math.cosh(jet.eta)) ** 2 + jet.mass**2)
    return math.sqrt(max(0.0, energy**2 - px**2 - py**2 - pz**2))


def transverse_mass(event: Event, lepton: Particle, tau: Particle) -> float:
    """Transverse mass of lepton, tau and missing momentum."""
    px = lepton.pt * math.cos(lepton.phi) + tau.pt * math.cos(tau.phi) + event.MET_pt * math.cos(event.MET_phi)
    py = lepton.pt * math.sin(lepton.phi) + tau.pt * math.sin(tau.phi) + event.MET_pt * math.sin(event.MET_phi)
    return math.sqrt(max(0.0, (lepton.pt + tau.pt + event.MET_pt) ** 2 - px**2 - py**2))


def select_lepton(event: Event) -> tuple[Particle | None, bool]:
    """The one tight lepton whose trigger fired, if any, and whether there is no other loose one."""
    muons, electrons = event.collection("Muon"), event.collection("Electron")
    tight = [(muon, event.HLT_IsoMu24) for muon in muons if tight_muon(muon)]
    tight += [(electron, event.HLT_Ele32_WPTight_Gsf) for electron in electrons if tight_electron(electron)]
    if len(tight) != 1 or not tight[0][1]:
        return None, False
    lepton = tight[0][0]
    loose = [muon for muon in muons if loose_muon(muon)] + [
        electron for electron in electrons if loose_electron(electron)
    ]
    return lepton, all(other is lepton for other in loose)


def analyze(event: Event) -> Iterator[str | tuple[float, float]]:
    """The steps that an event passes, one after the other; for a selected event at last its two masses."""
    yield "all"
    if not (event.HLT_IsoMu24 or event.HLT_Ele32_WPTight_Gsf):
        return
    yield "trigger"
    lepton, alone = select_lepton(event)
    if lepton is None:
        return
    yield "lepton"
    if not alone:
        return
    yield "veto"
    taus = [tau for tau in event.collection("Tau") if good_tau(tau) and tau.distance(lepton) > 0.5]
    if not taus:
        return
    yield "tau"
    tau = max(taus, key=lambda candidate: candidate.pt)
    if tau.charge != lepton.charge:
        return
    yield "charge"
    yield from analyze_jets(event, lepton, tau)


def analyze_jets(event: Event, lepton: Particle, tau: Particle) -> Iterator[str | tuple[float, float]]:
    """The second half of `analyze`, for events with a lepton and a tau of the same charge."""
    jets = [
        jet
        for jet in event.collection("Jet")
        if good_jet(jet) and jet.distance(lepton) > 0.4 and jet.distance(tau) > 0.4
    ]
    if len(jets) < 2:
        return
    yield "jets"
    if any(abs(jet.eta) < 2.4 and jet.btagDeepFlavB > 0.2783 for jet in jets):
        return
    yield "bveto"
    if not event.MET_pt > 50:
        return
    yield "met"
    one, two = sorted(jets, key=lambda jet: -jet.pt)[:2]
    mass = dijet_mass(one, two)
    if not mass > 500:
        return
    yield "mjj"
    if not abs(one.eta - two.eta) > 2.5:
        return
    yield "deta"
    yield mass, transverse_mass(event, lepton, tau)


def run(path: Path | str, start: int = 0, stop: int | None = None, step: int = 4000) -> Result:
    """Analyse the entries ``start`` to ``stop`` of a file."""
    result = Result()
    with uproot.open(path) as file:
        for batch in file[TREE].iterate(BRANCHES, step_size=step, entry_start=start, entry_stop=stop):
            columns = {name: batch[name].to_list() for name in BRANCHES}
            for index in range(len(batch)):
                event = Event(columns, index)
                weight = event.genWeight * event.puWeight
                for passed in analyze(event):
                    if isinstance(passed, str):
                        result.counts[passed] += 1
                        result.sums[passed] += weight
                    else:
                        result.mjj.fill(passed[0], weight=weight)
                        result.mo1.fill(passed[1], weight=weight)
    return result
