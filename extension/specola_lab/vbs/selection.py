"""The selection in words, and the form in which every implementation answers.

Everything is evaluated in double precision on the values of the file. An event that fails a step is not looked at in
the next. Of two candidates with the same pt the first in the file counts as the larger. dR is the distance in
pseudorapidity and azimuth.

=============  ==========================================================================================
step           an event stays if
=============  ==========================================================================================
``all``        it was read
``trigger``    ``HLT_IsoMu24`` or ``HLT_Ele32_WPTight_Gsf`` fired
``lepton``     it has exactly one tight lepton, and that lepton's own trigger fired. Tight muon: pt > 30 GeV,
               abs(eta) < 2.4, ``tightId``, ``pfRelIso04_all`` < 0.15. Tight electron: pt > 35 GeV,
               abs(eta) < 2.5, ``cutBased`` = 4
``veto``       it has no other loose lepton. Loose muon: pt > 10 GeV, abs(eta) < 2.4, ``looseId``,
               ``pfRelIso04_all`` < 0.4. Loose electron: pt > 10 GeV, abs(eta) < 2.5, ``cutBased`` >= 2
``tau``        it has a good tau; the one with the largest pt is taken. Good tau: pt > 30 GeV, abs(eta) < 2.3,
               abs(dz) < 0.2 cm, ``decayMode`` 0, 1, 10 or 11, DeepTau v2p1 against jets Tight (bit 5), against
               electrons VLoose (bit 2), against muons Tight (bit 3), dR > 0.5 from the lepton
``charge``     tau and lepton have the same charge
``jets``       it has two good jets or more; the two of largest pt are the tag jets. Good jet: pt > 30 GeV,
               abs(eta) < 4.7, ``jetId`` bit 1, ``puId`` bit 2 unless pt >= 50 GeV, dR > 0.4 from the lepton
               and from the tau
``bveto``      no good jet with abs(eta) < 2.4 has ``btagDeepFlavB`` > 0.2783
``met``        ``MET_pt`` > 50 GeV
``mjj``        the invariant mass of the tag jets is above 500 GeV
``deta``       the tag jets are more than 2.5 apart in pseudorapidity
=============  ==========================================================================================

The weight of an event is ``genWeight * puWeight``. The generator writes both as multiples of 1/256, as short binary
fractions: a sum of such weights is exact in double precision whatever its order, so the three implementations can be
asked for *equal* sums.

Two quantities are drawn for what is left: the mass of the tag jets, and the transverse mass ``m_o1`` of lepton, tau and
missing momentum: the square root of (pt_lepton + pt_tau + MET)^2 - abs(vector sum of the three)^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import hist

STEPS = ("all", "trigger", "lepton", "veto", "tau", "charge", "jets", "bveto", "met", "mjj", "deta")
TREE = "Events"


def mjj_histogram() -> hist.Hist:
    """Empty histogram of the mass of the tag jets in GeV."""
    return hist.Hist(
        hist.axis.Regular(20, 500, 3500, name="mjj", label=r"$m_{jj}$ [GeV]"), storage=hist.storage.Weight()
    )


def mo1_histogram() -> hist.Hist:
    """Empty histogram of the transverse mass of lepton, tau and missing momentum in GeV."""
    return hist.Hist(
        hist.axis.Regular(20, 0, 500, name="mo1", label=r"$m_{o1}(\ell, \tau_h, p_T^{miss})$ [GeV]"),
        storage=hist.storage.Weight(),
    )


@dataclass
class Result:
    """What an analysis of some events found; results of disjoint events are added with ``+``."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STEPS, 0))
    """Unweighted events after each step."""
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    """Sum of the weights after each step."""
    mjj: hist.Hist = field(default_factory=mjj_histogram)
    mo1: hist.Hist = field(default_factory=mo1_histogram)

    def __add__(self, other: Result) -> Result:
        """Both samples together."""
        return Result(
            {step: self.counts[step] + other.counts[step] for step in STEPS},
            {step: self.sums[step] + other.sums[step] for step in STEPS},
            self.mjj + other.mjj,
            self.mo1 + other.mo1,
        )

    def __eq__(self, other: object) -> bool:
        """Equal in every count, every sum and every bin: no tolerance."""
        return (
            isinstance(other, Result)
            and self.counts == other.counts
            and self.sums == other.sums
            and bool(self.mjj == other.mjj)
            and bool(self.mo1 == other.mo1)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value
