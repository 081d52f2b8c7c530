"""Beside the kernel: a thread that saves while a cell is still running, and what `specola_lab.gpu` calls.

The worker speaks to it over a socket pair, one JSON object a line:

worker: `{"do": "save", "id": n, "within": s, "limit": bytes}`   answered by `{"answer": n, …}`
kernel: `{"tell": "hooks", "count": n}`                           a checkpoint was registered
kernel: `{"ask": "list" | "fetch", "id": n, "name": …}`           answered by `{"reply": n, …}`
kernel: `{"ask": "api", "id": n, "method": …, "path": …, "body": …}`  the same

The thread needs Python's lock now and then: a cell that holds it in C code for a minute cannot be saved.
"""

from __future__ import annotations

import html
import itertools
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specola_worker.kernel import pickling, snapshot

INTERRUPT_SECONDS = 5.0
FETCH_SECONDS = 600.0
current: State | None = None
"""of this process, when it is a GPU kernel"""


class Restored:
    """What came back, and what did not."""

    def __init__(self, name: str, names: list[str], hooks: list[str], failed: list[dict[str, str]]) -> None:
        self.name = name
        self.names = names
        self.hooks = hooks
        self.failed = failed

    def __repr__(self) -> str:
        lines = [f"Restored {len(self.names)} variables of {self.name}: {', '.join(self.names) or 'none'}"]
        lines += [f"Loaded the checkpoint {name}" for name in self.hooks]
        lines += [f"Not restored: {one['name']} ({one['why']})" for one in self.failed]
        return "\n".join(lines)


class State:
    """Hooks, snapshots and the thread that serves the worker."""

    def __init__(self, descriptor: int, shell: Any, place: Path, *, home: str, about: dict[str, Any]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._shell = shell
        self._place = place
        self._home = home
        self._about = about
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._replies: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._idle = threading.Event()
        self._idle.set()
        self.hooks: list[snapshot.Hook] = []

    def start(self) -> None:
        """Serve, and offer what was saved before when the first cell runs."""
        global current  # noqa: PLW0603 - one kernel, one process
        current = self
        events = self._shell.events
        events.register("pre_run_cell", self._busy)
        events.register("post_run_cell", self._done)
        events.register("pre_run_cell", self._offer)
        threading.Thread(target=self._serve, name="specola-state", daemon=True).start()

    def _busy(self, _info: object) -> None:
        self._idle.clear()

    def _done(self, _result: object) -> None:
        self._idle.set()

    def _say(self, message: dict[str, Any]) -> None:
        with self._writing:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _serve(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                said = json.loads(line)
                if "reply" in said:
                    self._replies[said["reply"]].put(said)
                else:
                    thread = threading.Thread(target=self._save, args=(said,), name="specola-save", daemon=True)
                    thread.start()
        # the worker is gone: nobody can reach this kernel any more
        os._exit(1)

    # save

    def _save(self, order: dict[str, Any]) -> None:
        try:
            answer = self.save(within=order["within"], limit=order["limit"])
        except Exception as error:  # noqa: BLE001 - a full disk, a home that is gone: the worker is told
            failed = [{"name": "*", "why": pickling.reason(error)}]
            answer = {"names": [], "failed": failed, "hooks": [], "size": 0}
        self._say({"answer": order["id"], **{key: answer[key] for key in ("names", "failed", "hooks", "size")}})

    def save(self, *, within: float, limit: int) -> dict[str, Any]:
        """Run the hooks beside the cell that runs; then interrupt that cell and save the namespace. The manifest."""
        return snapshot.write(
            snapshot.Plan(
                target=self._place / self._about["lease"],
                namespace=self._shell.user_ns,
                hidden=self._shell.user_ns_hidden,
                hooks=list(self.hooks),
                about=self._about,
                limit=limit,
                until=time.monotonic() + within,
                before_namespace=self._interrupt,
            )
        )

    def _interrupt(self) -> None:
        """Variables that change while they are saved make no sense: a cell that still runs is stopped."""
        if not self._idle.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            self._idle.wait(INTERRUPT_SECONDS)

    def checkpoint(self, save: Callable[..., Any], load: Callable[..., Any] | None, name: str) -> None:
        """Register, in place of one of the same name."""
        self.hooks = [*(hook for hook in self.hooks if hook.name != name), snapshot.Hook(name, save, load)]
        self._say({"tell": "hooks", "count": len(self.hooks)})

    # restore

    def _ask(self, ask: str, **fields: Any) -> dict[str, Any]:
        number = next(self._numbers)
        reply = self._replies[number] = queue.SimpleQueue()
        try:
            self._say({"ask": ask, "id": number, **fields})
            said = reply.get(timeout=FETCH_SECONDS)
        finally:
            del self._replies[number]
        if "error" in said:
            raise RuntimeError(said["error"])
        return said

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the facility says about GPUs, asked through the person's server: `{"status", "body"}`; RuntimeError."""
        return self._ask("api", method=method, path=path, body=body)

    def snapshots(self) -> list[dict[str, Any]]:
        """Manifests, newest first; without a shared home the server is asked for them."""
        if self._home == "shared":
            return snapshot.listing(self._place)
        found: list[dict[str, Any]] = self._ask("list")["snapshots"]
        return found

    def restore(self, name: str | None) -> Restored:
        """Put the newest snapshot, or the named one, into the namespace; LookupError when there is none."""
        known = [one["name"] for one in self.snapshots()]
        if not known or (name is not None and name not in known):
            raise LookupError("There is no snapshot" + (f" named {name!r}" if name else " yet") + ".")
        chosen = name or known[0]
        if self._home != "shared":
            self._ask("fetch", name=chosen)
        names, hooks, failed = snapshot.read(self._place / chosen, self._shell.user_ns, self.hooks)
        return Restored(chosen, names, hooks, failed)

    def _offer(self, info: Any) -> None:
        """Once, above the first cell that somebody runs: what there is to restore."""
        if not getattr(info, "store_history", True):
            return
        self._shell.events.unregister("pre_run_cell", self._offer)
        found = self.snapshots()
        if found:
            from IPython.display import display

            display(offer(found[0]), raw=True)


def offer(newest: dict[str, Any]) -> dict[str, str]:
    """How a snapshot is offered, as a display's bundle."""
    when = time.strftime("%d %B, %H:%M", time.localtime(float(newest["created"])))
    count = len(newest["names"])
    text = f"The variables of your last GPU kernel ({when}: {count} of them) were saved. "
    code = f"gpu.restore({newest['name']!r})"
    rest = f"from specola_lab import gpu; {code}"
    return {"text/plain": text + f"Get them back with: {rest}", "text/html": f"{text}<code>{html.escape(rest)}</code>"}
