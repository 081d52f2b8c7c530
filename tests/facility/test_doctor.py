"""`specola doctor`: each probe says what people would notice, and none keeps another from trying."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from specola.core.errors import StateError
from specola.core.layout import Layout
from specola.core.state import VERSION, version_file
from specola.facility import doctor, processes, supervisor
from specola.facility.doctor import document, issuer, machine
from specola.facility.doctor.finding import Findings, Mark, Patient, well
from specola.facility.runtime import Runtime, addresses_file
from specola.launcher import limits
from specola.scaleout.adapters import proxy_command

NOBODY = Patient(Layout(Path("/nonexistent/state")), "f.yaml", complaints=("f.yaml:1: wrong",))


@dataclass
class Web:
    """A web server on loopback that answers every path alike."""

    url: str
    status: int = 200
    body: str = "{}"
    late: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response_only(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def who(runtime_of: Callable[..., Runtime]) -> Callable[..., Patient]:
    """A patient from the text of a facility file."""

    def make(text: str = "", **changes: Any) -> Patient:
        runtime = runtime_of(text)
        return replace(Patient(runtime.layout, "f.yaml", runtime), **changes)

    return make


def run(probe: doctor.Probe, patient: Patient) -> Findings:
    async def go() -> Findings:
        return await probe(patient)

    return asyncio.run(go())


def marks(findings: Findings) -> str:
    return "".join(finding.mark.value for finding in findings)


def iam(url: str, secret: str = "{env: NOT_SET}") -> str:
    return f"identity: {{kind: iam, issuer: '{url}', client_id: x, client_secret: {secret}}}"


def test_a_file_that_cannot_be_used_is_told_line_by_line() -> None:
    assert [finding.text for finding in run(document.facility_file, NOBODY)] == ["f.yaml:1: wrong"]


def test_a_valid_file_and_none_are_well(who: Callable[..., Patient]) -> None:
    assert run(document.facility_file, who())[0] == well("f.yaml is valid")
    assert "every key has a default" in run(document.facility_file, who(source=""))[0].text


@pytest.mark.parametrize("name", ["homes", "memory", "port", "processes", "issuer", "clock"])
def test_what_needs_a_facility_is_not_tried_without_one(name: str) -> None:
    assert marks(run(doctor.PROBES[name], NOBODY)) == "–"


def test_secrets_that_can_be_read_are_well(who: Callable[..., Patient], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    found = run(document.secrets, who(iam("https://x", f"{{file: {tmp_path}/secret}}")))
    assert found == [well("identity.client_secret: can be read")]


def test_secrets_that_are_empty_or_missing_are_told(
    who: Callable[..., Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("\n")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert "is empty" in run(document.secrets, who(iam("https://x", f"{{file: {tmp_path}/secret}}")))[0].text
    assert "holds no secret" in run(document.secrets, who(iam("https://x")))[0].text
    assert "No such file" in run(document.secrets, who(iam("https://x", "{file: /nonexistent/x}")))[0].text


def test_a_facility_without_references_has_no_secrets_to_try(who: Callable[..., Patient]) -> None:
    assert marks(run(document.secrets, who())) == "–"
    assert marks(run(document.secrets, NOBODY)) == "–"


def test_references_are_found_in_named_sections(who: Callable[..., Patient]) -> None:
    identity = who(iam("https://x")).runtime.facility.identity  # type: ignore[union-attr]
    assert [place for place, _ in document._references({"a": {"b": identity}}, "x")] == ["x.a.b.client_secret"]


def test_a_state_directory_that_is_not_there_yet_is_made_later() -> None:
    assert marks(run(machine.state, NOBODY)) == "–"


def test_a_state_directory_is_ours_closed_and_not_newer(
    who: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = who()
    monkeypatch.setattr(machine, "_service_uid", os.geteuid)
    patient.layout.state.chmod(0o700)
    assert marks(run(machine.state, patient)) == "✓"
    version_file(patient.layout).write_text(f"{VERSION}\n")
    assert f"version {VERSION}" in run(machine.state, patient)[0].text
    version_file(patient.layout).write_text(f"{VERSION + 1}\n")
    patient.layout.state.chmod(0o755)
    open_, newer = run(machine.state, patient)
    assert "open to other accounts" in open_.text
    assert "newer release" in newer.text


def test_a_state_directory_of_somebody_else_is_told(
    who: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_service_uid", lambda: 4711)
    assert "not to 4711" in run(machine.state, who())[0].text


def test_state_belongs_to_the_service_account_for_root_and_to_the_user_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert machine._service_uid() == 1234
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: pwd.struct_passwd(("specola", "x", 55, 55, "", "/", "/")))
    assert machine._service_uid() == 55

    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    assert machine._service_uid() == 0


def test_homes_that_can_be_written_have_room(who: Callable[..., Patient]) -> None:
    patient = who()
    assert marks(run(machine.homes, patient)) == "–"
    patient.runtime.homes.mkdir()  # type: ignore[union-attr]
    assert marks(run(machine.homes, patient)) == "✓"


def test_homes_that_are_too_small_for_one_quota_are_told(who: Callable[..., Patient]) -> None:
    patient = who("homes: {quota_gib: 900 TiB}")
    patient.runtime.homes.mkdir()  # type: ignore[union-attr]
    found = run(machine.homes, patient)
    assert marks(found) == "✓✗–"
    assert "warned of at 95 %" in found[2].text


def test_homes_that_cannot_be_written_are_told(who: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    patient = who()
    patient.runtime.homes.mkdir()  # type: ignore[union-attr]
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert "cannot be written" in run(machine.homes, patient)[0].text


@pytest.mark.parametrize(
    ("options", "separate", "on", "mark", "expected"),
    [
        ("rw,usrquota", True, True, "✓", "enforced by the file system"),
        ("rw,usrquota", True, False, "–", "but they are off"),
        ("rw,usrjquota=aquota.user", True, False, "–", "but they are off"),
        ("rw,prjquota", True, False, "–", "mounted without quotas of accounts"),
        ("rw", True, False, "–", "mounted without quotas of accounts"),
        ("rw,usrquota", False, True, "–", "belong to one account"),
    ],
)
def test_a_quota_is_enforced_only_where_the_kernel_says_so(  # noqa: PLR0917 - pytest passes by name
    options: str, separate: bool, on: bool, mark: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mount options tell what an operator wanted; whether it holds is known to the kernel alone."""
    table = tmp_path / "mounts"
    table.write_text(f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path} xfs {options} 0 0\n/dev/c /elsewhere xfs rw 0 0\n")
    mount = machine._mount_of(tmp_path / "homes", table)
    assert mount == (str(tmp_path), frozenset(options.split(",")))
    monkeypatch.setattr(machine, "_mount_of", lambda _path: mount)
    monkeypatch.setattr(machine.ThisKernel, "enforces", lambda _kernel, _path: on)
    found = machine._quota(tmp_path, 5, separate=separate)
    assert marks([found]) == mark
    assert expected in found.text


def test_memory_without_any_limit_is_told(who: Callable[..., Patient]) -> None:
    assert "one person can use it all" in run(machine.memory, who())[0].text


def test_memory_limits_are_enforced_where_a_control_group_can_be_made(
    who: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A directory that takes the files of a control group of version 2 stands for the kernel's."""
    (tmp_path / "cgroup.controllers").write_text("memory")
    found = {"memory": limits.Controller(tmp_path, lambda gib: (("memory.max", str(int(gib)), False),))}
    monkeypatch.setattr(limits, "controllers", lambda: found)
    text = "groups: {a: {memory_gib: 1}}"
    assert f"control group v2 at {tmp_path}" in run(machine.memory, who(text))[0].text


def test_memory_limits_are_advisory_where_none_can_be_made(
    who: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "controllers", dict)
    assert "advisory" in run(machine.memory, who("servers: {memory_gib: 1}"))[0].text


def test_a_free_port_is_well_and_a_taken_one_is_told(who: Callable[..., Patient]) -> None:
    patient = who()
    assert "is free" in run(machine.port, patient)[0].text
    with socket.socket() as other:
        other.bind(("127.0.0.1", patient.runtime.ports.proxy))  # type: ignore[union-attr]
        other.listen()
        assert "cannot be used (Address already in use)" in run(machine.port, patient)[0].text


def on_port(patient: Patient, name: str, url: str) -> Patient:
    """The same facility, one of its ports being that of a URL."""
    assert patient.runtime is not None
    number = int(url.rpartition(":")[2])
    ports = patient.runtime.ports.model_copy(update={name: number})
    addresses = patient.runtime.addresses.model_copy(update={"ports": ports})
    runtime = Runtime(patient.layout, patient.runtime.facility, addresses)
    return replace(patient, runtime=runtime, up=True)


def test_the_port_of_a_running_facility_answers_or_is_told(who: Callable[..., Patient], web: Web) -> None:
    patient = on_port(who(), "proxy", web.url)
    assert marks(run(machine.port, patient)) == "✓"
    assert web.asked == ["/hub/health"]
    web.status = 503
    assert "answers with 503" in run(machine.port, patient)[0].text
    assert "does not answer (ConnectError)" in run(machine.port, replace(who(), up=True))[0].text


def test_processes_are_asked_one_by_one(who: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    patient = who(up=True)
    assert "not up" in run(machine.processes, patient)[0].text
    addresses_file(patient.layout).write_text("{}")
    monkeypatch.setattr(supervisor, "healthy", lambda process: process.name != "hub")
    found = run(machine.processes, patient)
    assert marks(found).count("✗") == 1
    assert "hub does not answer" in [finding.text for finding in found]
    assert "service answers" in [finding.text for finding in found]
    assert "not up" in run(machine.processes, replace(patient, up=False))[0].text


def test_programs_of_the_wheels_are_looked_for_and_run() -> None:
    found = run(machine.programs, NOBODY)
    assert [finding.text.split()[0].rstrip(":") for finding in found][:3] == ["Node", *found_names()]
    assert found[0].mark is Mark.WELL
    assert found[0].text.startswith("Node v")


def found_names() -> list[str]:
    return ["configurable-http-proxy", "dask-gateway-proxy"]


def test_programs_that_are_missing_or_broken_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> Path:
        raise FileNotFoundError("the package x is not installed")

    monkeypatch.setattr(processes, "node", lambda: Path("/bin/false"))
    monkeypatch.setattr(processes, "proxy_program", lambda: tmp_path / "none")
    monkeypatch.setattr(proxy_command, "program", missing)
    node, proxy, gateway, *_ = run(machine.programs, NOBODY)
    assert "does not run on this machine" in node.text
    assert "is missing" in proxy.text
    assert "the package x is not installed" in gateway.text
    assert machine._distribution("no-such-distribution").mark is Mark.ILL
    assert machine._distribution("jupyterhub").mark is Mark.WELL


ENDPOINTS = dict.fromkeys(issuer.NEEDED, "https://x/")


def test_an_issuer_that_names_itself_is_well(who: Callable[..., Patient], web: Web) -> None:
    web.body = json.dumps({"issuer": f"{web.url}/", **ENDPOINTS, "code_challenge_methods_supported": ["S256"]})
    assert marks(run(issuer.issuer, who(iam(f"{web.url}/")))) == "✓"
    assert web.asked == ["/.well-known/openid-configuration"]


def test_an_issuer_that_differs_by_a_slash_is_told(who: Callable[..., Patient], web: Web) -> None:
    """Issuers are compared to the letter: a missing slash refuses every login."""
    web.body = json.dumps({"issuer": f"{web.url}/", **ENDPOINTS})
    (found,) = run(issuer.issuer, who(iam(web.url)))
    assert found.mark is Mark.ILL
    assert found.todo == f"set identity.issuer to exactly {web.url}/"


@pytest.mark.parametrize("named", [None, 3, "x" * 500])
def test_an_issuer_that_names_nothing_sensible_is_not_quoted(
    named: object, who: Callable[..., Patient], web: Web
) -> None:
    web.body = json.dumps({"issuer": named})
    (found,) = run(issuer.issuer, who(iam(web.url)))
    assert found.todo == "ask the operator of the issuer"


def test_an_issuer_without_pkce_or_endpoints_is_told(who: Callable[..., Patient], web: Web) -> None:
    web.body = json.dumps({"issuer": web.url, **ENDPOINTS, "code_challenge_methods_supported": ["plain"]})
    assert "PKCE" in run(issuer.issuer, who(iam(web.url)))[1].text
    web.body = json.dumps({"issuer": web.url, **ENDPOINTS, "jwks_uri": None})
    assert "leaves out jwks_uri" in run(issuer.issuer, who(iam(web.url)))[0].text


@pytest.mark.parametrize(("status", "body"), [(404, "{}"), (200, "<html>"), (200, "[]")])
def test_an_issuer_without_a_document_is_told(status: int, body: str, who: Callable[..., Patient], web: Web) -> None:
    web.status, web.body = status, body
    (found,) = run(issuer.issuer, who(iam(web.url)))
    assert f"holds no discovery document (status {status})" in found.text


def test_an_issuer_that_does_not_answer_is_told(who: Callable[..., Patient]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (found,) = run(issuer.issuer, who(iam(url)))
        assert "nobody new can log in" in found.text
        assert marks(run(issuer.clock, who(iam(url)))) == "–"


def test_the_embedded_issuer_is_asked_when_the_facility_is_up(who: Callable[..., Patient], web: Web) -> None:
    """It is asked where this machine reaches it, and must name the public URL."""
    patient = who()
    assert marks(run(issuer.issuer, patient)) == "–"
    up = on_port(patient, "issuer", web.url)
    web.body = json.dumps({"issuer": up.runtime.issuer_url, **ENDPOINTS})  # type: ignore[union-attr]
    assert marks(run(issuer.issuer, up)) == "✓"
    assert web.asked == ["/services/issuer/.well-known/openid-configuration"]


def test_a_clock_that_is_wrong_is_told(who: Callable[..., Patient], web: Web) -> None:
    patient = who(iam(web.url))
    assert marks(run(issuer.clock, patient)) == "–"
    web.headers["Date"] = formatdate(time.time(), usegmt=True)
    assert marks(run(issuer.clock, patient)) == "✓"
    web.headers["Date"] = formatdate(time.time() - 3600, usegmt=True)
    assert "this clock is +36" in run(issuer.clock, patient)[0].text
    assert marks(run(issuer.clock, who())) == "–"


def test_a_probe_that_fails_or_hangs_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.05)

    async def hangs(_who: Patient) -> Findings:
        await asyncio.sleep(60)
        return []

    async def fails(_who: Patient) -> Findings:
        raise StateError("no way")

    async def denied(_who: Patient) -> Findings:
        raise PermissionError(13, "Permission denied", "/x")

    async def answers(_who: Patient) -> Findings:
        return [well("fine")]

    table: dict[str, doctor.Probe] = {"a": hangs, "b": fails, "c": denied, "d": answers}
    found = asyncio.run(doctor.examine(NOBODY, table))
    assert [part.ill for part in found] == [True, True, True, False]
    assert [part.findings[0].text for part in found] == [
        "no result within 0 s",
        "no way",
        "[Errno 13] Permission denied: '/x'",
        "fine",
    ]


def test_the_whole_table_is_tried(who: Callable[..., Patient]) -> None:
    found = asyncio.run(doctor.examine(who()))
    assert [part.name for part in found] == list(doctor.PROBES)
    assert all(part.findings for part in found)


def test_a_patient_is_the_file_given_or_the_one_last_started(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    assert doctor.patient(layout, None).source == ""
    layout.state.mkdir()
    layout.facility_file.write_text("name: mine")
    mine = doctor.patient(layout, None)
    assert mine.runtime is not None
    assert mine.runtime.facility.name == "mine"
    assert not mine.up
    (tmp_path / "f.yaml").write_text("nam: x")
    assert len(doctor.patient(layout, tmp_path / "f.yaml").complaints) == 1
    addresses_file(layout).mkdir()
    assert "runtime.json" in doctor.patient(layout, None).complaints[0]


def test_a_state_directory_that_is_closed_to_us_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    (line,) = doctor.patient(Layout(tmp_path / "state"), None).complaints
    assert line.endswith("facility.yaml: Permission denied; ask as its owner, or as root")
