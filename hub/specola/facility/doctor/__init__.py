"""Try each part of a facility, and say of each what its people would see and what to do about it.

A probe is an async function in the table below. It changes nothing that lasts, and what one finds or runs into
never keeps another from trying.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from specola.core.errors import FacilityError, SpecolaError
from specola.core.layout import Layout
from specola.facility.doctor import document, gpu, issuer, machine
from specola.facility.doctor.finding import Findings, Mark, Patient, Probe, ill
from specola.facility.loader import load, load_text
from specola.facility.render import runtime_of
from specola.facility.supervisor import supervisor_pid

PATIENCE = 20.0
PROBES: dict[str, Probe] = {
    "facility file": document.facility_file,
    "secrets": document.secrets,
    "state": machine.state,
    "homes": machine.homes,
    "memory": machine.memory,
    "gpu": gpu.gpu,
    "programs": machine.programs,
    "port": machine.port,
    "issuer": issuer.issuer,
    "clock": issuer.clock,
    "processes": machine.processes,
}


@dataclass(frozen=True)
class Examined:
    """What one probe found."""

    name: str
    findings: Findings

    @property
    def ill(self) -> bool:
        """Whether people would notice."""
        return any(finding.mark is Mark.ILL for finding in self.findings)


def patient(layout: Layout, file: Path | None) -> Patient:
    """The facility of a file, or the one that was last started from a state directory."""
    source = str(file or layout.facility_file)
    try:
        if file is None and not layout.facility_file.exists():
            source, facility = "", load_text("", "facility.yaml")
        else:
            facility = load(file or layout.facility_file)
        runtime = runtime_of(facility, layout)
    except FacilityError as error:
        return Patient(layout, source, complaints=tuple(error.complaints))
    except OSError as error:
        return Patient(layout, source, complaints=(f"{source}: {error.strerror}; ask as its owner, or as root",))
    except SpecolaError as error:
        return Patient(layout, source, complaints=(str(error),))
    return Patient(layout, source, runtime, up=supervisor_pid(layout) is not None)


async def examine(who: Patient, probes: dict[str, Probe] | None = None) -> list[Examined]:
    """Try everything at once; in the order of the table."""
    table = PROBES if probes is None else probes
    results = await asyncio.gather(*(_tried(probe, who) for probe in table.values()))
    return [Examined(name, findings) for name, findings in zip(table, results, strict=True)]


async def _tried(probe: Probe, who: Patient) -> Findings:
    try:
        return await asyncio.wait_for(probe(who), PATIENCE)
    except TimeoutError:
        return [ill(f"no result within {PATIENCE:.0f} s", "look at the load of this machine and at its network")]
    except (OSError, SpecolaError) as error:
        return [ill(str(error), "see above; as root, everything can be looked at")]
