"""Events made by hand: one that passes everything, and one for each way to fail."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from specola_lab.vbs import generator

Event = dict[str, Any]

MUON = {
    "pt": 45.0,
    "eta": 0.5,
    "phi": 0.1,
    "mass": 0.1,
    "charge": 1,
    "tightId": True,
    "looseId": True,
    "pfRelIso04_all": 0.05,
}
ELECTRON = {"pt": 45.0, "eta": -0.5, "phi": 1.1, "mass": 0.0, "charge": 1, "cutBased": 4}
DEEPTAU = {"idDeepTau2017v2p1VSjet": 63, "idDeepTau2017v2p1VSe": 7, "idDeepTau2017v2p1VSmu": 15}
TAU = {"pt": 50.0, "eta": -0.7, "phi": 2.0, "mass": 1.0, "charge": 1, "decayMode": 1, "dz": 0.01, **DEEPTAU}
FORWARD = {"pt": 90.0, "eta": 3.0, "phi": -2.0, "mass": 9.0, "btagDeepFlavB": 0.02, "jetId": 6, "puId": 7}
BACKWARD = {**FORWARD, "pt": 70.0, "eta": -2.5, "phi": -0.5}
GOOD: Event = {
    "genWeight": -0.8125,
    "puWeight": 1.125,
    "HLT_IsoMu24": True,
    "HLT_Ele32_WPTight_Gsf": False,
    "MET_pt": 80.0,
    "MET_phi": -1.0,
    "Muon": [MUON],
    "Electron": [],
    "Tau": [TAU],
    "Jet": [FORWARD, BACKWARD],
}


def altered(collection: str, index: int = 0, **values: Any) -> Event:
    """The good event with one particle changed."""
    event = deepcopy(GOOD)
    event[collection][index].update(values)
    return event


def with_more(**particles: dict[str, Any]) -> Event:
    """The good event with one particle more in some collections."""
    event = deepcopy(GOOD)
    for name, particle in particles.items():
        event[name].append(particle)
    return event


electron_event = {
    **deepcopy(GOOD),
    "Muon": [],
    "Electron": [ELECTRON],
    "HLT_IsoMu24": False,
    "HLT_Ele32_WPTight_Gsf": True,
}

CASES: dict[str, tuple[str, Event]] = {
    "passes everything": ("deta", GOOD),
    "an electron instead of the muon": ("deta", electron_event),
    "no trigger": ("all", {**GOOD, "HLT_IsoMu24": False}),
    "only the trigger of the other lepton": ("trigger", {**GOOD, "HLT_IsoMu24": False, "HLT_Ele32_WPTight_Gsf": True}),
    "an electron with the muon's trigger": (
        "trigger",
        {**electron_event, "HLT_IsoMu24": True, "HLT_Ele32_WPTight_Gsf": False},
    ),
    "no lepton": ("trigger", {**GOOD, "Muon": []}),
    "soft muon": ("trigger", altered("Muon", pt=30.0)),
    "forward muon": ("trigger", altered("Muon", eta=-2.41)),
    "muon that is not tight": ("trigger", altered("Muon", tightId=False)),
    "muon that is not isolated": ("trigger", altered("Muon", pfRelIso04_all=0.2)),
    "electron that is not tight": ("trigger", {**electron_event, "Electron": [{**ELECTRON, "cutBased": 3}]}),
    "electron below its threshold": ("trigger", {**electron_event, "Electron": [{**ELECTRON, "pt": 34.0}]}),
    "two tight muons": ("trigger", with_more(Muon={**MUON, "phi": -3.0})),
    "a tight muon and a tight electron": ("trigger", with_more(Electron=ELECTRON)),
    "another loose muon": ("lepton", with_more(Muon={**MUON, "pt": 11.0, "phi": -3.0, "tightId": False})),
    "another loose electron": ("lepton", with_more(Electron={**ELECTRON, "pt": 11.0, "cutBased": 2})),
    "another muon, too soft": ("deta", with_more(Muon={**MUON, "pt": 10.0, "phi": -3.0})),
    "another muon, not isolated": ("deta", with_more(Muon={**MUON, "pt": 20.0, "pfRelIso04_all": 0.5})),
    "another electron, veto grade": ("deta", with_more(Electron={**ELECTRON, "cutBased": 1})),
    "no tau": ("veto", {**GOOD, "Tau": []}),
    "soft tau": ("veto", altered("Tau", pt=29.0)),
    "forward tau": ("veto", altered("Tau", eta=2.31)),
    "tau from another vertex": ("veto", altered("Tau", dz=-0.25)),
    "tau with two prongs": ("veto", altered("Tau", decayMode=5)),
    "tau like a jet": ("veto", altered("Tau", idDeepTau2017v2p1VSjet=31)),
    "tau like an electron": ("veto", altered("Tau", idDeepTau2017v2p1VSe=3)),
    "tau like a muon": ("veto", altered("Tau", idDeepTau2017v2p1VSmu=7)),
    "tau on the lepton": ("veto", altered("Tau", eta=0.6, phi=0.2)),
    "tau on the lepton across the branch of phi": (
        "veto",
        {**GOOD, "Muon": [{**MUON, "phi": 3.1}], "Tau": [{**TAU, "eta": 0.5, "phi": -3.1}]},
    ),
    "opposite charge": ("tau", altered("Tau", charge=-1)),
    "the larger of two taus decides": ("tau", with_more(Tau={**TAU, "pt": 60.0, "charge": -1, "phi": -2.8})),
    "of two equal taus the first decides": ("deta", with_more(Tau={**TAU, "charge": -1, "phi": -2.8})),
    "one jet": ("charge", {**GOOD, "Jet": [FORWARD]}),
    "soft second jet": ("charge", altered("Jet", 1, pt=29.0)),
    "jet beyond the calorimeter": ("charge", altered("Jet", 0, eta=4.71)),
    "jet that is noise": ("charge", altered("Jet", 0, jetId=4)),
    "soft jet of pile-up": ("charge", altered("Jet", 1, pt=49.0, puId=3)),
    "hard jet needs no pile-up identification": ("deta", altered("Jet", 1, puId=0)),
    "jet that is the lepton": ("charge", altered("Jet", 0, eta=0.5, phi=0.1)),
    "jet that is the tau": ("charge", altered("Jet", 1, eta=-0.7, phi=2.2)),
    "b jet": ("jets", with_more(Jet={**FORWARD, "pt": 31.0, "eta": 1.0, "btagDeepFlavB": 0.28})),
    "b jet out of reach of the tracker": ("deta", altered("Jet", 0, btagDeepFlavB=0.9)),
    "little missing momentum": ("bveto", {**GOOD, "MET_pt": 50.0}),
    "light pair of jets": ("met", altered("Jet", 1, eta=2.0)),
    "heavy pair of jets, close in eta": (
        "mjj",
        {**GOOD, "Jet": [{**FORWARD, "pt": 900.0}, {**BACKWARD, "pt": 900.0, "eta": 0.6}]},
    ),
    "a harder central jet becomes a tag jet": ("met", with_more(Jet={**FORWARD, "pt": 85.0, "eta": 2.0, "phi": -2.9})),
}


def write(path: Path, events: list[Event]) -> Path:
    """A file with these events, its branches typed as the generator's."""
    types = generator.events("ssww", 1, 0)
    columns: dict[str, ak.Array] = {}
    for name, example in types.items():
        if not isinstance(example, ak.Array):
            columns[name] = np.array([event.get(name, 1) for event in events], example.dtype)
            continue
        per_event = [event[name] for event in events]
        flat = {
            field: np.array(
                [particle[field] for event in per_event for particle in event], ak.flatten(example[field]).layout.dtype
            )
            for field in example.fields
        }
        columns[name] = ak.unflatten(ak.zip(flat), [len(event) for event in per_event])
    with uproot.recreate(path) as file:
        file.mktree(
            "Events", {name: getattr(values, "dtype", None) or values.type.content for name, values in columns.items()}
        )
        file["Events"].extend(columns)
    return path
