"""Same-sign WW scattering with one lepton and one hadronic tau: the analysis of the second tutorial.

The same selection is written three times and independently: `loop` (one event after the other, as in nanoAOD-tools),
`columnar` (awkward arrays) and `distributed` (chunks on Dask workers). `selection` is the one text that all three
follow and the form of their answer; `generator` makes the NanoAOD-like events. After the final state of Tedeschi et
al., arXiv:2307.12579.
"""
