"""A running facility, as a test or a bench uses it: started by the real command, driven over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import websocket
from specola.facility.prepare import free_ports

TOP = Path(__file__).resolve().parents[1]
SPECOLA = Path(sys.prefix) / "bin" / "specola"
QUIET = 20.0
"""seconds after which a kernel's websocket is opened anew: a server hangs up on whoever does not answer its pings"""


def free_port() -> int:
    """A loopback port that nobody has, and that the system gives nobody before it is used."""
    return free_ports(("one",))["one"]


def wait_for(condition: Callable[[], Any], seconds: float = 60, what: str = "the condition") -> Any:
    limit = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


class Form(HTMLParser):
    """The first form of a page: its action and fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form" and self.action is None:
            self.action = found.get("action") or ""
        if tag == "input" and found.get("name"):
            self.fields[str(found["name"])] = found.get("value") or ""


@dataclass
class Session:
    """One person's browser, without the browser."""

    facility: Facility
    name: str
    http: httpx.Client
    _token: str | None = None

    def xsrf(self, path: str = "/hub/") -> dict[str, str]:
        found = [c.value for c in self.http.cookies.jar if c.name == "_xsrf" and c.path == path]
        return {"X-XSRFToken": str(found[-1])} if found else {}

    @property
    def token(self) -> str:
        """An API token of the hub, as a script would use it."""
        if self._token is None:
            answer = self.http.post(
                f"{self.facility.url}hub/api/users/{self.name}/tokens", json={"note": "test"}, headers=self.xsrf()
            )
            answer.raise_for_status()
            self._token = answer.json()["token"]
        return self._token

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"} | more.pop("headers", {})
        return httpx.request(
            method, f"{self.facility.url}services/specola/api/v1/{path}", headers=headers, timeout=120, **more
        )

    def hub(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, f"{self.facility.url}hub/api/{path}", headers=headers, timeout=120, **more)

    def server_ready(self, name: str = "") -> bool:
        servers = self.hub("GET", f"users/{self.name}").json()["servers"]
        return bool(servers.get(name, {}).get("ready"))

    def start_server(self, seconds: float = 180) -> float:
        begin = time.monotonic()
        answer = self.hub("POST", f"users/{self.name}/server")
        assert answer.status_code in {201, 202, 400}, answer.text
        wait_for(self.server_ready, seconds, f"the server of {self.name}")
        return time.monotonic() - begin

    def stop_server(self) -> None:
        self.hub("DELETE", f"users/{self.name}/server")
        wait_for(lambda: not self.hub("GET", f"users/{self.name}").json()["servers"], 120, "the server's end")

    def lab(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"} | more.pop("headers", {})
        url = f"{self.facility.url}user/{self.name}/{path}"
        return httpx.request(method, url, headers=headers, timeout=120, **more)

    def kernel(self) -> Kernel:
        identity = self.lab("POST", "api/kernels", json={"name": "python3"})
        identity.raise_for_status()
        return Kernel(self, identity.json()["id"])


@dataclass
class Kernel:
    """A kernel over the websocket that the browser uses."""

    session: Session
    id: str
    socket: websocket.WebSocket = field(init=False)
    heard: float = field(init=False)
    """when this end last read, and so answered the server's pings"""

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        url = f"{self.session.facility.url}user/{self.session.name}/api/kernels/{self.id}/channels"
        self.socket = websocket.create_connection(
            url.replace("http", "ws", 1) + f"?session_id={uuid.uuid4().hex}",
            header=[f"Authorization: token {self.session.token}"],
            timeout=120,
        )
        self.heard = time.monotonic()

    def run(self, code: str, seconds: float = 120) -> str:
        """Run a cell; its output as text. An exception in the cell is one here."""
        message = self.send(code)
        return self.finish(message, seconds)

    def hear(self, message: str, words: str, seconds: float = 120) -> None:
        """Read until a cell has written these words, be it after its end."""
        written = ""
        self.socket.settimeout(seconds)
        while words not in written:
            answer = json.loads(self.socket.recv())
            if answer["msg_type"] == "stream" and answer["parent_header"].get("msg_id") == message:
                written += answer["content"]["text"]

    def send(self, code: str) -> str:
        """Begin to run a cell; the number of its message."""
        if time.monotonic() - self.heard > QUIET:
            self.socket.close()
            self.connect()
        message = uuid.uuid4().hex
        header = {"msg_id": message, "msg_type": "execute_request", "username": "", "session": self.id}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        self.socket.send(
            json.dumps(
                {
                    "channel": "shell",
                    "header": header | {"version": "5.3", "date": ""},
                    "parent_header": {},
                    "metadata": {},
                    "content": content | {"stop_on_error": True},
                    "buffers": [],
                }
            )
        )
        return message

    def finish(self, message: str, seconds: float = 120) -> str:
        output = ""
        self.socket.settimeout(seconds)
        while True:
            raw = self.socket.recv()
            if not isinstance(raw, str):
                continue
            answer = json.loads(raw)
            if answer["parent_header"].get("msg_id") != message:
                continue
            content = answer["content"]
            if answer["msg_type"] == "stream":
                output += content["text"]
            elif answer["msg_type"] in {"execute_result", "display_data"}:
                output += content["data"].get("text/plain", "")
            elif answer["msg_type"] == "error":
                raise AssertionError("\n".join([output, *content["traceback"]]))
            elif answer["msg_type"] == "status" and content["execution_state"] == "idle":
                self.heard = time.monotonic()
                return output


@dataclass
class Facility:
    """A facility that `specola up` started."""

    state: Path
    port: int
    command: list[str]
    account: int | None = None
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def run(self) -> Path:
        return self.state.with_name(self.state.name + ".run")

    @property
    def homes(self) -> Path:
        return self.state.with_name("homes")

    def home_of(self, person: str) -> Path:
        """A person's home; another facility on this machine may have the plain name."""
        (home,) = [path for path in self.homes.iterdir() if path.name.split("-")[0] == person]
        return home

    def logins(self) -> dict[str, dict[str, Any]]:
        return {one["username"]: one for one in json.loads((self.state / "demo-logins.json").read_text())}

    def specola(self, *arguments: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(SPECOLA), *arguments],
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
            user=self.account,
            group=self.account,
            extra_groups=None if self.account is None else [],
            cwd="/",
            **more,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def up(self) -> str:
        return self.specola(*self.command).stdout

    def stop(self) -> None:
        self.specola("stop", "--state", str(self.state))

    def status(self) -> dict[str, Any]:
        done = self.specola("status", "--json", "--state", str(self.state), check=False)
        return json.loads(done.stdout)

    def pid(self, process: str) -> int:
        for directory in (self.state / "pids", self.run / "pids"):
            if (directory / process).exists():
                return int((directory / process).read_text().split()[0])
        raise AssertionError(f"no process {process}")

    def kill(self, process: str) -> float:
        """kill -9, and the seconds until it answers again under another pid."""
        before = self.pid(process)
        begin = time.monotonic()
        os.kill(before, signal.SIGKILL)

        def back() -> bool:
            found = self.status()["processes"][process]
            return found["answers"] and found["pid"] not in {None, before}

        wait_for(back, 180, f"{process} after kill -9")
        return time.monotonic() - begin

    def login(self, name: str, password: str | None = None) -> Session:
        """Log in as a browser does: the hub, the issuer's form, back to the start page."""
        http = httpx.Client(follow_redirects=True, timeout=120)
        page = http.get(f"{self.url}hub/oauth_login", params={"next": "/services/specola/"})
        form = Form(page.text)
        assert form.action is not None, page.text[:2000]
        secret = password or self.logins()[name]["password"]
        fields = form.fields | {"username": name, "password": secret}
        target = urljoin(str(page.url), form.action or str(page.url))
        answer = http.post(target, data=fields, headers={"Origin": self.url.rstrip("/"), "Referer": str(page.url)})
        session = Session(self, name, http)
        session.page = answer  # type: ignore[attr-defined]
        return session


@contextlib.contextmanager
def started(
    facility_file: Path | None = None,
    *,
    text: str | None = None,
    account: int | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Facility]:
    """A facility in a directory of its own, stopped and removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="sp-", dir="/var/tmp"))
    place.chmod(0o711)
    state = place / "state"
    if account is not None:
        os.chown(place, account, account)
    source = place / "facility.yaml"
    source.write_text(text if text is not None else (facility_file or TOP / "examples/demo.yaml").read_text())
    source.chmod(0o644)
    port = free_port()
    command = ["up", "--detach", "--facility", str(source), "--state", str(state), "--port", str(port)]
    facility = Facility(state, port, command, account, host)
    command += ["--public-url", facility.url]
    try:
        facility.up()
        yield facility
    finally:
        keep_logs(facility)
        facility.specola("stop", "--state", str(state), check=False)
        facility.specola("reset", "--yes", "--state", str(state), check=False)
        shutil.rmtree(place, ignore_errors=True)


def keep_logs(facility: Facility) -> None:
    """Logs are artefacts of the tests."""
    target = TOP / "artefacts" / "logs" / facility.state.parent.name
    target.mkdir(parents=True, exist_ok=True)
    for source in (facility.state / "logs", facility.run / "logs"):
        for log in source.glob("*.log") if source.is_dir() else ():
            shutil.copyfile(log, target / log.name)


def strip(text: str) -> str:
    """Text without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
