"""What another account of the machine tries: plain functions, run as that account by `tried_by`.

Each answers what it got hold of; an empty answer is a wall that held. Standard library only, since the account that
runs them may see nothing but Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PYTHON = "/usr/bin/python3"


def reads_tree(top: str) -> list[str]:
    """What can be listed or read below a directory, the directory itself included."""
    got = []
    with contextlib.suppress(PermissionError):
        got = [f"list {path.name}" for path in Path(top).iterdir()]
    for name in (".bashrc", "secret.txt", ".run", ".specola", ".tmp", ".local/share/jupyter/runtime", "runtime.json"):
        got += opens(str(Path(top) / name))
    return got


def opens(path: str) -> list[str]:
    """Whether a file or directory of known name can be opened."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except (PermissionError, FileNotFoundError):
        return []
    return [f"open {path}"]


def writes_into(path: str) -> list[str]:
    """Whether a file can be made in a directory."""
    try:
        (Path(path) / "from-another-account").write_text("x")
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return []
    return [f"write {path}"]


def connects_unix(paths: list[str]) -> list[str]:
    """Unix sockets of known path that answer a connection."""
    got = []
    for path in paths:
        with socket.socket(socket.AF_UNIX) as one:
            try:
                one.connect(path)
            except OSError:
                continue
            got.append(f"connect {path}")
    return got


def listeners(uid: int) -> list[int]:
    """TCP ports on which an account listens, as everybody may read."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[7]) == uid:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(found)


def talks_zmq(ports: list[int]) -> list[int]:
    """Ports that greet as ZeroMQ does: a kernel's channels."""
    got = []
    for port in ports:
        with socket.socket() as one:
            one.settimeout(2)
            try:
                one.connect(("127.0.0.1", port))
                if one.recv(1) == b"\xff":
                    got.append(port)
            except OSError:
                continue
    return got


def talks_tls(ports: list[int], certificate: str = "", key: str = "") -> list[int]:
    """Ports that say or answer anything over TLS, with the certificate of a cluster or without any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    got = []
    for port in ports:
        with contextlib.suppress(OSError), context.wrap_socket(socket.create_connection(("127.0.0.1", port), 2)) as one:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if one.recv(1):
                got.append(port)
    return got


def gets(urls: list[str]) -> list[str]:
    """URLs that answer 200 without any credential and without leading to a login."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
    got = []
    for url in urls:
        try:
            with opener.open(url, timeout=5) as answer:
                got.append(f"{answer.status} {url}")
        except (urllib.error.URLError, OSError):
            continue
    return got


def reads_process(pids: list[int]) -> list[str]:
    """Secrets of processes that can be read: environment, memory, descriptors, working directory."""
    got = []
    for pid in pids:
        for name in ("environ", "mem", "maps"):
            try:
                with Path(f"/proc/{pid}/{name}").open("rb") as file:
                    if name == "mem" or file.read(1):
                        got.append(f"{name} of {pid}")
            except (PermissionError, FileNotFoundError, ProcessLookupError):
                continue
        for name in ("cwd", "fd"):
            try:
                list(Path(f"/proc/{pid}/{name}").iterdir())
            except (PermissionError, FileNotFoundError, ProcessLookupError):
                continue
            got.append(f"{name} of {pid}")
    return got


def signals(pids: list[int]) -> list[str]:
    """Processes that can be signalled; 0 only asks whether one may."""
    got = []
    for pid in pids:
        for number in (0, signal.SIGCONT, signal.SIGTERM):
            try:
                os.kill(pid, number)
            except PermissionError:
                continue
            except ProcessLookupError:
                got.append(f"{pid} is gone")
                continue
            got.append(f"signal {int(number)} to {pid}")
    return got


def gains_root() -> list[str]:
    """Set-uid programs that still help: with no_new_privs none does."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    got = [] if fields["NoNewPrivs"] == "1" else ["set-uid programs work"]
    return got + ([] if int(fields["CapEff"], 16) == 0 else ["capabilities"])


def tried_by(uid: int, gid: int, probe: str, *arguments: Any) -> Any:
    """Run one of these functions as another account, which has nothing but its own rights."""
    done = subprocess.run(
        ["setpriv", "--no-new-privs", PYTHON, "-I", "-", probe, json.dumps(arguments)],
        input=Path(__file__).read_text(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        user=uid,
        group=gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
