"""`specola doctor` about GPUs: what an operator sees of each pool, and what to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from specola.core.layout import Layout
from specola.facility import doctor
from specola.facility.doctor.finding import Finding, Patient
from specola.facility.doctor.gpu import gpu
from specola.facility.runtime import Runtime
from specola.gpu.adapters import probing
from specola.gpu.adapters.nvml_library import Library
from specola.gpu.adapters.probing import Seen
from specola.gpu.model import ActuatorError


@pytest.fixture
def look(runtime_of: Callable[..., Runtime]) -> Callable[[str], list[Finding]]:
    """What is found about the pool `p` of one line of YAML."""

    def find(pool: str) -> list[Finding]:
        runtime = runtime_of(f"gpu: {{pools: {{p: {{{pool}}}}}}}" if pool else "")
        return asyncio.run(gpu(Patient(runtime.layout, "f.yaml", runtime)))

    return find


def marks(found: list[Finding]) -> str:
    return "".join(one.mark.value for one in found)


def test_what_is_not_there_is_not_tried(look: Callable[[str], list[Finding]]) -> None:
    assert doctor.PROBES["gpu"] is gpu
    assert marks(asyncio.run(gpu(Patient(Layout(Path("/nonexistent")), "f.yaml", complaints=("wrong",))))) == "–"
    assert [one.text for one in look("")] == ["the facility file has no pool of GPUs"]


def test_invented_gpus_are_called_so(look: Callable[[str], list[Finding]]) -> None:
    (found,) = look("actuator: simulated, model: A100-40GB, cards: 2")
    assert found.text == "p: simulated: 2 cards A100-40GB that compute nothing, 0 slices held"


@pytest.mark.parametrize("actuator", ["dra", "device-plugin", "mig-parted"])
def test_kubernetes_is_said_to_be_out_of_reach(look: Callable[[str], list[Finding]], actuator: str) -> None:
    (found,) = look(f"actuator: {actuator}, model: A100-40GB")
    assert "Kubernetes" in found.text
    assert marks([found]) == "–"


def test_each_finding_about_this_machine_is_a_line(
    look: Callable[[str], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def probe(*_: object) -> list[Seen]:
        return [Seen(well=True, text="driver 580"), Seen(well=False, text="no A100", todo="buy one"), Seen(None, "x")]

    monkeypatch.setattr(probing, "probe", probe)
    found = look("actuator: nvml, model: A100-40GB")
    assert marks(found) == "✓✗–"
    assert (found[1].text, found[1].todo) == ("p: no A100", "buy one")


def test_a_machine_without_a_driver_is_said(
    look: Callable[[str], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: Library) -> str:
        raise ActuatorError("the NVIDIA driver does not answer")

    monkeypatch.setattr(Library, "version", none)
    (found,) = look("actuator: nvml, model: A100-40GB")
    assert found.text == "p: the NVIDIA driver does not answer"
    assert "specola[gpu]" in found.todo


class TroubleError(Exception):
    """As the bindings' own."""


def bindings(located: Any) -> Any:
    """The part of HTCondor's bindings that is asked; `located` is what a collector knows, or raises."""

    class Collector:
        def __init__(self, name: str | None = None) -> None:
            self.name = name

        def locate(self, kind: str, name: str | None) -> Any:
            assert kind == "schedd"
            if isinstance(located, Exception):
                raise located
            return located and {"Name": f"{name} at {self.name}"}

    daemons = SimpleNamespace(Schedd="schedd")
    return SimpleNamespace(Collector=Collector, DaemonType=daemons, HTCondorException=TroubleError, __spec__="there")


@pytest.mark.parametrize(
    ("located", "more", "expected", "words"),
    [
        (True, "", "✓", "p: the schedd None at None answers"),
        (True, ", schedd: s1, collector: c1", "✓", "p: the schedd s1 at c1 answers"),
        (None, "", "✗", "p: HTCondor does not know the schedd"),
        (TroubleError("no daemon"), "", "✗", "p: HTCondor does not answer: no daemon"),
    ],
)
def test_a_schedd_answers_or_is_told(
    look: Callable[[str], list[Finding]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    located: Any,
    more: str,
    expected: str,
    words: str,
) -> None:
    monkeypatch.setitem(sys.modules, "htcondor2", bindings(located))
    (found,) = look(f"actuator: condor, model: A100-40GB{more}")
    assert (marks([found]), found.text) == (expected, words)


def test_bindings_that_are_not_installed_are_told(
    look: Callable[[str], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specola.facility.doctor.gpu.find_spec", lambda name: None)
    (found,) = look("actuator: condor, model: A100-40GB")
    assert found.todo == "pip install 'specola[condor]'"


@pytest.mark.parametrize(
    ("script", "expected", "words"),
    [
        ("exit 0", "✓", "p: Slurm answers"),
        ("echo no munge >&2; exit 1", "✗", "p: Slurm does not answer: no munge"),
        (None, "✗", "does not answer: [Errno 8] Exec format error"),
    ],
)
def test_slurm_answers_or_is_told(
    look: Callable[[str], list[Finding]], tmp_path: Path, script: str | None, expected: str, words: str
) -> None:
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).write_text("" if script is None else f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (found,) = look(f"actuator: slurm, model: A100-40GB, programs: {tmp_path}")
    assert marks([found]) == expected
    assert words in found.text


def test_a_machine_without_the_clients_of_slurm_is_told(look: Callable[[str], list[Finding]], tmp_path: Path) -> None:
    (found,) = look(f"actuator: slurm, model: A100-40GB, programs: {tmp_path}")
    assert found.text == f"p: {tmp_path} has no sbatch, squeue, scancel"
