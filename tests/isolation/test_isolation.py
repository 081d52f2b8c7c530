"""What a second account of the machine cannot do to the first; a probe that finds nothing is tried from inside too."""

from __future__ import annotations

import json
import uuid

import pytest
from neighbours import Neighbours
from running import Kernel

pytestmark = pytest.mark.needs_root


def test_each_has_an_account_of_their_own(neighbours: Neighbours) -> None:
    assert neighbours.anna.uid != neighbours.bruno.uid
    assert len(neighbours.pids) >= 2
    assert neighbours.kernel.run("import os; print(os.getuid())").strip() == str(neighbours.anna.uid)


def test_home_cannot_be_read_or_written(neighbours: Neighbours) -> None:
    home = str(neighbours.anna.home)
    assert neighbours.anna_tries("reads_tree", home)
    assert neighbours.bruno_tries("reads_tree", home) == []
    assert neighbours.bruno_tries("writes_into", home) == []
    assert neighbours.bruno_tries("reads_tree", str(neighbours.anna.runtime)) == []


def test_homes_cannot_be_listed(neighbours: Neighbours) -> None:
    assert neighbours.bruno_tries("opens", str(neighbours.anna.home.parent)) == []


def test_kernel_has_no_port(neighbours: Neighbours) -> None:
    """The only port of an account is its server's, which asks for a login."""
    ports = neighbours.bruno_tries("listeners", neighbours.anna.uid)
    assert len(ports) == 1
    assert neighbours.bruno_tries("talks_zmq", ports) == []
    base = f"http://127.0.0.1:{ports[0]}/user/anna"
    paths = ("/lab", "/tree", "/api/kernels", "/api/contents", "/api/terminals", "/files/secret.txt", "/metrics")
    assert neighbours.bruno_tries("gets", [base + path for path in paths]) == []


def test_output_of_forked_children_still_arrives(neighbours: Neighbours) -> None:
    """ipykernel's pipe for it would be a TCP port; it is a private socket here, and works."""
    code = "import os\nif os.fork() == 0:\n    print('from a child', flush=True)\n    os._exit(0)\nos.wait()\n"
    neighbours.kernel.hear(neighbours.kernel.send(code), "from a child")


def test_kernel_sockets_cannot_be_reached(neighbours: Neighbours) -> None:
    sockets = [str(path) for path in (neighbours.anna.runtime / "run").glob("kernel-*-ipc-*")]
    assert len(sockets) == 5
    assert neighbours.anna_tries("connects_unix", sockets) != []
    assert neighbours.bruno_tries("connects_unix", sockets) == []


def test_debugger_is_off(neighbours: Neighbours) -> None:
    """A debugger listens on loopback without asking who connects, so it does not start here."""
    before = neighbours.bruno_tries("listeners", neighbours.anna.uid)
    assert neighbours.kernel.run("import ipykernel.debugger as d; print(d._is_debugpy_available)").strip() == "False"
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "debug_request", "username": "", "session": "x", "version": "5.3"}
    content = {"type": "request", "seq": 1, "command": "initialize", "arguments": {"clientID": "x", "adapterID": ""}}
    message = {"channel": "control", "header": header | {"date": ""}, "parent_header": {}, "metadata": {}}
    neighbours.kernel.socket.send(json.dumps(message | {"content": content, "buffers": []}))
    assert neighbours.kernel.run("print('still here')").strip() == "still here"
    assert neighbours.bruno_tries("listeners", neighbours.anna.uid) == before


def test_processes_cannot_be_read(neighbours: Neighbours) -> None:
    assert neighbours.anna_tries("reads_process", neighbours.pids) != []
    assert neighbours.bruno_tries("reads_process", neighbours.pids) == []


def test_processes_cannot_be_signalled(neighbours: Neighbours) -> None:
    assert neighbours.bruno_tries("signals", neighbours.pids) == []


def test_launcher_and_state_are_closed_to_people(neighbours: Neighbours) -> None:
    layout = neighbours.hub.place.layout
    assert neighbours.bruno_tries("connects_unix", [str(layout.launcher_socket)]) == []
    for path in (layout.run / "programs", layout.run / "logs", layout.run / "programs" / "server.anna"):
        assert neighbours.bruno_tries("opens", str(path)) == []
    for path in (layout.run, neighbours.hub.place.ledger, neighbours.hub.place.ledger.parent):
        assert neighbours.bruno_tries("opens", str(path)) == []


def test_person_gains_nothing_from_set_uid_programs(neighbours: Neighbours) -> None:
    """Inside one's own server neither su nor sudo nor any other set-uid program raises one's rights."""
    code = "import subprocess as s; print(s.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout)"
    status = neighbours.kernel.run(code)
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status


def test_memory_limit_holds_for_kernels(neighbours: Neighbours) -> None:
    """The whole server with its kernels shares one limit; what exceeds it is ended, the server itself is not."""
    limit = neighbours.kernel.run("print(open('/proc/self/cgroup').read())")
    if f"specola-{neighbours.hub.place.layout.id}" not in limit:
        pytest.skip("this machine has no writable memory control group: the limit is advisory")
    number = neighbours.hub.jupyter("POST", "anna", "kernels", json={"name": "python3"}).json()["id"]
    greedy = Kernel(neighbours.kernel.session, number)
    greedy.send("x = b'x' * (3 << 30); print('got', 'it')")
    greedy.socket.settimeout(300)
    words = ""
    while "restarting" not in words and "got it" not in words:
        words += str(greedy.socket.recv())
    assert "got it" not in words
    assert neighbours.hub.jupyter("GET", "anna", "status").is_success
