"""From the click on *start* to a kernel that answers, over HTTP and a websocket through the proxy; for every hub."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass

import httpx
import websocket

PATIENCE = 300.0


class Refused(Exception):
    """The hub did not start the server: too many at once, or it failed."""


@dataclass(frozen=True)
class Person:
    """Somebody with a token at some hub."""

    url: str
    """The hub's public URL, with a slash at the end."""
    name: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What proves who asks."""
        return {"Authorization": f"token {self.token}"}

    def click_to_idle(self) -> float:
        """Start the server, follow its progress, start a kernel, wait until it is idle; seconds that this took."""
        begin = time.perf_counter()
        with httpx.Client(headers=self.headers, timeout=PATIENCE) as http:
            asked = http.post(f"{self.url}hub/api/users/{self.name}/server")
            if asked.status_code not in {201, 202}:
                raise Refused(f"{asked.status_code}: {asked.text[:200]}")
            self._follow(http)
            made = http.post(f"{self.url}user/{self.name}/api/kernels", json={"name": "python3"})
            made.raise_for_status()
            self._answer(made.json()["id"])
        return time.perf_counter() - begin

    def _follow(self, http: httpx.Client) -> None:
        with http.stream("GET", f"{self.url}hub/api/users/{self.name}/server/progress") as progress:
            progress.raise_for_status()
            for line in progress.iter_lines():
                event = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if event.get("failed"):
                    raise Refused(str(event.get("message")))
                if event.get("ready"):
                    return
        raise Refused("the progress ended without a server")

    def _answer(self, kernel: str) -> None:
        message = uuid.uuid4().hex
        url = f"{self.url}user/{self.name}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        header = [f"{name}: {value}" for name, value in self.headers.items()]
        channel = websocket.create_connection(url.replace("http", "ws", 1), header=header, timeout=PATIENCE)
        try:
            ask = {"msg_id": message, "msg_type": "kernel_info_request", "username": "", "session": message}
            ask |= {"version": "5.3", "date": ""}
            body = {
                "header": ask,
                "parent_header": {},
                "metadata": {},
                "content": {},
                "buffers": [],
                "channel": "shell",
            }
            channel.send(json.dumps(body))
            while True:
                said = json.loads(channel.recv())
                ours = said["parent_header"].get("msg_id") == message
                if ours and said["msg_type"] == "status" and said["content"]["execution_state"] == "idle":
                    return
        finally:
            channel.close()

    def stop(self) -> None:
        """Stop the server and wait until it is gone."""
        with httpx.Client(headers=self.headers, timeout=PATIENCE) as http:
            http.delete(f"{self.url}hub/api/users/{self.name}/server")
            limit = time.monotonic() + PATIENCE
            while http.get(f"{self.url}hub/api/users/{self.name}").json()["servers"]:
                if time.monotonic() > limit:
                    raise Refused(f"the server of {self.name} does not end")
                time.sleep(0.1)
