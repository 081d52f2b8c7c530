"""NanoAOD-like events with the multiplicities of the real thing and a seed; toy physics, nothing was simulated.

`events` makes the arrays and `write` puts them into a ROOT file with the trees ``Events`` and ``Runs``. W and Z decay
isotropically in their rest frame with their width, so that transverse masses have their edges; jets, fakes,
identification and pile-up are drawn from simple distributions. Each collection is built of *slots* (one candidate per
event, kept or not) and comes sorted by pt.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
GRID = 256.0
"""Weights are multiples of ``1 / GRID``: their sums are exact."""


@dataclass(frozen=True)
class Process:
    """One sample: what is really in its events, and how many would be seen."""

    title: str
    femtobarn: float
    """Cross section of the generated phase space; chosen for a readable plot, not a measurement."""
    boson_mass: float = 80.4
    boson_width: float = 2.1
    real_tau: float = 0.0
    """Fraction of events with a hadronic tau."""
    same_charge: float = 0.5
    fake_tau: float = 0.25
    """Chance of each of two jets to be reconstructed as a tau as well."""
    b_jets: float = 0.0
    """Chance of each of the two hard jets to be a b jet."""
    forward: bool = False
    """The hard jets are tag jets of vector boson scattering."""
    jet_scale: float = 30.0
    soft_leptons: float = 0.1


PROCESSES = {
    "ssww": Process(r"$W^\pm W^\pm jj$ (EW)", 3.2, real_tau=1.0, same_charge=0.995, forward=True, jet_scale=55.0),
    "ttbar": Process(
        r"$t\bar{t}$", 120.0, real_tau=0.3, same_charge=0.03, fake_tau=0.4, b_jets=0.6, jet_scale=70.0, soft_leptons=0.3
    ),
    "wjets": Process("W+jets", 60.0, fake_tau=0.6, jet_scale=75.0),
    "dytautau": Process(r"Z$\to\tau\tau$", 30.0, 91.2, 2.5, real_tau=1.0, same_charge=0.03, jet_scale=75.0),
}


@dataclass(frozen=True)
class Momenta:
    """Transverse momentum, pseudorapidity and azimuth of one candidate per event."""

    pt: Floats
    eta: Floats
    phi: Floats

    def near(self, rng: np.random.Generator, scale: Floats | float = 1.0) -> Momenta:
        """The same particle as another algorithm reconstructs it."""
        size = len(self.pt)
        smear = rng.normal(1.0, 0.08, size)
        return Momenta(
            self.pt * smear * scale, self.eta + rng.normal(0, 0.02, size), wrap(self.phi + rng.normal(0, 0.02, size))
        )


class Slots:
    """Candidates of one collection: each `add` offers one candidate per event."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._keep: list[Bools] = []
        self._columns: dict[str, list[Any]] = {}

    def add(self, keep: Bools, momenta: Momenta, **columns: npt.NDArray[Any]) -> None:
        """Offer a candidate where ``keep`` and its pt is above the collection's threshold."""
        self._keep.append(keep & (momenta.pt > self._threshold))
        kinematics = {name: getattr(momenta, name).astype(np.float32) for name in ("pt", "eta", "phi")}
        for name, values in {**kinematics, **columns}.items():
            self._columns.setdefault(name, []).append(values)

    def collection(self) -> ak.Array:
        """The kept candidates of each event, largest pt first."""
        keep = np.stack(self._keep, axis=1)
        order = np.argsort(np.where(keep, -np.stack(self._columns["pt"], axis=1), np.inf), axis=1, kind="stable")
        keep = np.take_along_axis(keep, order, axis=1)
        flat = {
            name: np.take_along_axis(np.stack(slots, axis=1), order, axis=1)[keep]
            for name, slots in self._columns.items()
        }
        return ak.unflatten(ak.zip(flat), keep.sum(axis=1))


def wrap(phi: Floats) -> Floats:
    """Azimuth between -pi and pi."""
    return np.asarray((phi + np.pi) % (2 * np.pi) - np.pi)


def two_body(rng: np.random.Generator, process: Process, size: int, pt_scale: float) -> tuple[Momenta, Momenta]:
    """The two massless daughters of a W or Z with some transverse momentum and rapidity."""
    mass = np.clip(process.boson_mass + process.boson_width / 2 * rng.standard_cauchy(size), 30, 160)
    transverse = rng.gamma(2.0, pt_scale, size)
    azimuth, rapidity = rng.uniform(-np.pi, np.pi, size), rng.normal(0, 1.0, size)
    boosted_mass = np.hypot(mass, transverse)
    parent = np.array(
        [
            transverse * np.cos(azimuth),
            transverse * np.sin(azimuth),
            boosted_mass * np.sinh(rapidity),
            boosted_mass * np.cosh(rapidity),
        ]
    )
    cosine, turn = rng.uniform(-1, 1, size), rng.uniform(-np.pi, np.pi, size)
    sine = np.sqrt(1 - cosine**2)
    rest = mass / 2 * np.array([sine * np.cos(turn), sine * np.sin(turn), cosine])
    along = (parent[:3] * rest).sum(axis=0)
    first = rest + parent[:3] * (along / (mass * (mass + parent[3])) + 0.5)
    return _momenta(first), _momenta(parent[:3] - first)


def _momenta(vector: Floats) -> Momenta:
    pt = np.hypot(vector[0], vector[1])
    return Momenta(pt, np.arcsinh(vector[2] / np.maximum(pt, 1e-9)), np.arctan2(vector[1], vector[0]))


def hard_jets(rng: np.random.Generator, process: Process, size: int) -> tuple[Momenta, Momenta]:
    """The two jets of the hard process: in opposite hemispheres when they are tag jets."""
    side = rng.choice([-1.0, 1.0], size)
    other = -side if process.forward else rng.choice([-1.0, 1.0], size)
    centre, width = (2.3, 0.9) if process.forward else (0.0, 1.9)
    jets = []
    for sign, offset in ((side, 35.0), (other, 20.0)):
        eta = np.clip(sign * np.abs(rng.normal(centre, width, size)), -4.9, 4.9)
        jets.append(Momenta(offset + rng.gamma(1.6, process.jet_scale, size), eta, rng.uniform(-np.pi, np.pi, size)))
    return jets[0], jets[1]


def soft(rng: np.random.Generator, size: int, scale: float, spread: float) -> Momenta:
    """A candidate of the underlying event or of pile-up."""
    eta = np.clip(rng.normal(0, spread, size), -4.9, 4.9)
    return Momenta(3 + rng.exponential(scale, size), eta, rng.uniform(-np.pi, np.pi, size))


def bits(rng: np.random.Generator, size: int, passed: float, points: int) -> npt.NDArray[np.uint8]:
    """Nested working points as a bit mask; each further one is passed with the same chance."""
    level = (np.cumprod(rng.random((points, size)) < passed, axis=0)).sum(axis=0)
    return ((1 << level) - 1).astype(np.uint8)


def _leptons(
    rng: np.random.Generator, process: Process, lepton: Momenta, charge: npt.NDArray[np.int32], is_muon: Bools
) -> dict[str, ak.Array]:
    size = len(charge)
    muons, electrons = Slots(3.0), Slots(5.0)
    good, real = rng.random(size) < 0.94, np.ones(size, bool)
    muons.add(
        is_muon,
        lepton,
        mass=np.full(size, 0.10566, np.float32),
        charge=charge,
        tightId=good,
        looseId=good | (rng.random(size) < 0.9),
        pfRelIso04_all=rng.exponential(0.04, size).astype(np.float32),
    )
    grade = np.where(good, 4, rng.integers(0, 4, size)).astype(np.int32)
    electrons.add(~is_muon, lepton, mass=np.full(size, 0.000511, np.float32), charge=charge, cutBased=grade)
    for _ in range(2):
        tight = rng.random(size) < 0.4
        muons.add(
            rng.random(size) < process.soft_leptons,
            soft(rng, size, 6, 1.3),
            mass=np.full(size, 0.10566, np.float32),
            charge=_charges(rng, size),
            tightId=tight,
            looseId=tight | (rng.random(size) < 0.8),
            pfRelIso04_all=rng.exponential(0.8, size).astype(np.float32),
        )
        grade = rng.choice(np.array([0, 1, 2, 4], np.int32), size, p=[0.6, 0.2, 0.15, 0.05])
        electrons.add(
            real & (rng.random(size) < process.soft_leptons),
            soft(rng, size, 6, 1.4),
            mass=np.full(size, 0.000511, np.float32),
            charge=_charges(rng, size),
            cutBased=grade,
        )
    return {"Muon": muons.collection(), "Electron": electrons.collection()}


def _charges(rng: np.random.Generator, size: int) -> npt.NDArray[np.int32]:
    return rng.choice(np.array([-1, 1], np.int32), size)


def _add_tau(
    rng: np.random.Generator,
    taus: Slots,
    keep: Bools,
    tau: Momenta,
    charge: npt.NDArray[np.int32],
    *,
    passed: tuple[float, float, float],
) -> None:
    size = len(charge)
    modes = rng.choice(np.array([0, 1, 2, 10, 11], np.int32), size, p=[0.2, 0.5, 0.05, 0.18, 0.07])
    taus.add(
        keep,
        tau,
        mass=np.where(modes == 0, 0.13957, rng.uniform(0.5, 1.5, size)).astype(np.float32),
        charge=charge,
        decayMode=modes,
        dz=rng.normal(0, 0.06, size).astype(np.float32),
        idDeepTau2017v2p1VSjet=bits(rng, size, passed[0], 8),
        idDeepTau2017v2p1VSe=bits(rng, size, passed[1], 8),
        idDeepTau2017v2p1VSmu=bits(rng, size, passed[2], 4),
    )


def _add_jet(
    rng: np.random.Generator, jets: Slots, keep: Bools, jet: Momenta, b_jet: Bools, *, real: float = 0.97
) -> None:
    size = len(b_jet)
    jets.add(
        keep,
        jet,
        mass=(jet.pt * rng.uniform(0.05, 0.2, size)).astype(np.float32),
        btagDeepFlavB=np.where(b_jet, rng.beta(4, 1.2, size), rng.beta(0.6, 9, size)).astype(np.float32),
        jetId=np.where(rng.random(size) < 0.98, 6, 0).astype(np.int32),
        puId=np.where(rng.random(size) < real, 7, rng.choice([0, 1, 4, 6], size)).astype(np.int32),
    )


def events(process: str, number: int, seed: int) -> dict[str, ak.Array]:
    """``number`` events of a process as the branches of NanoAOD; the same arguments give the same events."""
    kind = PROCESSES[process]
    rng = np.random.default_rng([seed, zlib.crc32(process.encode())])
    lepton, neutrino = two_body(rng, kind, number, 35.0 if kind.forward else 18.0)
    charge, is_muon = _charges(rng, number), rng.random(number) < 0.52
    if kind.boson_mass > 85:  # Z -> tau tau: both taus are the daughters, and each keeps a part of its momentum only
        share = rng.beta(1.5, 2.2, number)
        visible, lepton = neutrino, Momenta(lepton.pt * share, lepton.eta, lepton.phi)
        missing = Momenta(lepton.pt * (1 / np.maximum(share, 0.02) - 1), lepton.eta, lepton.phi)
    else:
        visible, missing_tau = two_body(rng, kind, number, 35.0 if kind.forward else 18.0)
        missing = neutrino if kind.real_tau < 1 else _sum(neutrino, missing_tau)
    hidden = rng.beta(1.2, 2.2, number)
    tau = Momenta(visible.pt * (1 - hidden), visible.eta, visible.phi)
    has_tau = rng.random(number) < kind.real_tau
    missing = _sum(missing, Momenta(np.where(has_tau, visible.pt * hidden, 0.0), visible.eta, visible.phi))
    return {
        **_identity(rng, number),
        **_leptons(rng, kind, lepton, charge, is_muon),
        **_taus_and_jets(rng, kind, lepton, tau, charge, has_tau=has_tau),
        **_event(rng, lepton, missing, is_muon),
    }


def _sum(one: Momenta, two: Momenta) -> Momenta:
    x = one.pt * np.cos(one.phi) + two.pt * np.cos(two.phi)
    y = one.pt * np.sin(one.phi) + two.pt * np.sin(two.phi)
    return Momenta(np.hypot(x, y), one.eta, np.arctan2(y, x))


def _identity(rng: np.random.Generator, number: int) -> dict[str, ak.Array]:
    return {
        "run": np.ones(number, np.uint32),
        "luminosityBlock": (1 + np.arange(number) // 200).astype(np.uint32),
        "event": 1 + np.arange(number, dtype=np.uint64),
        "genWeight": np.where(rng.random(number) < 0.12, -208 / GRID, 208 / GRID).astype(np.float32),
        "puWeight": (np.clip(np.rint(rng.normal(1.0, 0.18, number) * GRID), 64, 512) / GRID).astype(np.float32),
    }


def _taus_and_jets(
    rng: np.random.Generator,
    kind: Process,
    lepton: Momenta,
    tau: Momenta,
    charge: npt.NDArray[np.int32],
    *,
    has_tau: Bools,
) -> dict[str, ak.Array]:
    size, everywhere, nothing = len(charge), np.ones(len(charge), bool), np.zeros(len(charge), bool)
    taus, jets = Slots(18.0), Slots(15.0)
    same = rng.random(size) < kind.same_charge
    _add_tau(rng, taus, has_tau, tau, np.where(same, charge, -charge).astype(np.int32), passed=(0.965, 0.99, 0.995))
    _add_tau(rng, taus, rng.random(size) < 0.5, lepton.near(rng), charge, passed=(0.93, 0.4, 0.5))
    for jet in hard_jets(rng, kind, size):
        _add_jet(rng, jets, everywhere, jet, rng.random(size) < kind.b_jets)
        _add_tau(
            rng,
            taus,
            rng.random(size) < kind.fake_tau,
            jet.near(rng, 0.8),
            _charges(rng, size),
            passed=(0.78, 0.95, 0.98),
        )
    for rate in (0.75, 0.5, 0.3, 0.2, 0.1):
        _add_jet(rng, jets, rng.random(size) < rate, soft(rng, size, 26, 2.0), rng.random(size) < 0.02)
    for rate in (0.6, 0.4, 0.2):
        _add_jet(rng, jets, rng.random(size) < rate, soft(rng, size, 14, 2.6), nothing, real=0.3)
    _add_jet(rng, jets, everywhere, lepton.near(rng), nothing)
    _add_jet(rng, jets, has_tau, tau.near(rng, 1.05), nothing)
    return {"Tau": taus.collection(), "Jet": jets.collection()}


def _event(rng: np.random.Generator, lepton: Momenta, missing: Momenta, is_muon: Bools) -> dict[str, ak.Array]:
    size = len(is_muon)
    x = missing.pt * np.cos(missing.phi) + rng.normal(0, 15, size)
    y = missing.pt * np.sin(missing.phi) + rng.normal(0, 15, size)
    turn_on = 1 / (1 + np.exp(-(lepton.pt - np.where(is_muon, 24, 32)) / 1.2))
    fired = (rng.random(size) < 0.93 * turn_on) & (np.abs(lepton.eta) < 2.45)
    return {
        "MET_pt": np.hypot(x, y).astype(np.float32),
        "MET_phi": np.arctan2(y, x).astype(np.float32),
        "PV_npvsGood": rng.poisson(32, size).astype(np.int32),
        "HLT_IsoMu24": (fired & is_muon) | (rng.random(size) < 0.004),
        "HLT_Ele32_WPTight_Gsf": (fired & ~is_muon) | (rng.random(size) < 0.004),
    }


def write(path: Path, process: str, number: int, seed: int) -> Path:
    """A NanoAOD-like file of ``number`` events; its ``Runs`` tree holds the sum of the generator weights as in CMS."""
    arrays = events(process, number, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    weights = np.asarray(arrays["genWeight"], np.float64)
    with uproot.recreate(scratch, compression=uproot.ZLIB(1)) as file:
        file.mktree("Events", {name: _type(values) for name, values in arrays.items()})
        for start in range(0, number, 20_000):
            file["Events"].extend({name: values[start : start + 20_000] for name, values in arrays.items()})
        runs = {
            "run": np.ones(1, np.uint32),
            "genEventCount": np.array([number], np.int64),
            "genEventSumw": np.array([weights.sum()]),
        }
        file.mktree("Runs", {name: _type(values) for name, values in runs.items()})
        file["Runs"].extend(runs)
    scratch.replace(path)
    return path


def _type(values: ak.Array) -> Any:
    return values.type.content if isinstance(values, ak.Array) else np.asarray(values).dtype
