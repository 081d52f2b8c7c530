"""A GPU kernel beside a local one in the same server: how soon it is ready, what a cell costs more, how fast output is.

A whole facility runs, with simulated cards: the slice is invented, everything else is what people use. The clock of
*ready* starts when the lease is offered and stops at the reply to the first cell that a browser sends. One round that
does not count comes before, so that what the worker needs is in the page cache; nothing of it runs before the grant.
Cells go to both kernels in turn, from a third kernel of the server, over the sockets that the server itself uses: on
the way to a browser jupyter-server's websocket may wait 40 ms for an acknowledgement, for both kernels alike, and that
would hide what is to be measured. Output goes to the browser, as displays of one megabyte: what a cell prints
jupyter-server holds to 1 MB/s.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
import uuid

from running import TOP, Kernel, Session, started, wait_for

from bench.figures import Measurement, median, rounded

MEGABYTES = 50
CELLS = """
import glob, json, os, time
from jupyter_client import BlockingKernelClient
from jupyter_core.paths import jupyter_runtime_dir
clients = {{}}
for name, kernel in {kernels!r}.items():
    file = os.path.join(jupyter_runtime_dir(), f"kernel-{{kernel}}.json")
    clients[name] = one = BlockingKernelClient(connection_file=file)
    one.load_connection_file()
    one.start_channels()
    one.wait_for_ready(timeout=60)
taken = {{name: [] for name in clients}}
for turn in range({cells} + 1):
    for name in sorted(clients, reverse=bool(turn % 2)):
        begin = time.perf_counter()
        clients[name].execute_interactive("1", output_hook=lambda message: None)
        taken[name].append(time.perf_counter() - begin)
print(json.dumps({{name: seconds[1:] for name, seconds in taken.items()}}))
"""
SHOW = "from IPython.display import display\nfor _ in range({}): display({{'text/plain': 'x' * 10**6}}, raw=True)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--rounds", type=int, default=10, help="how many leases get a kernel")
    parser.add_argument("--cells", type=int, default=200, help="how many cells run in each of the two kernels")
    parser.add_argument("--outputs", type=int, default=3, help=f"how often {MEGABYTES} MB are shown in each of them")


def measure(options: argparse.Namespace) -> Measurement:
    """Run the bench."""
    with started(TOP / "examples/demo.yaml") as facility:
        anna = facility.login("anna")
        anna.start_server()
        ready: dict[str, list[float]] = {"gpu": [], "local": []}
        for _ in range(options.rounds + 1):
            for name, start in {"local": local, "gpu": on_lease}.items():
                kernel, seconds = start(anna)
                ready[name].append(seconds)
                end(kernel)
        (gpu, _), (own, _) = on_lease(anna), local(anna)
        kernels = {"local": own, "gpu": gpu}
        asker, _ = local(anna)
        names = {name: kernel.id for name, kernel in kernels.items()}
        cells = json.loads(asker.run(CELLS.format(kernels=names, cells=options.cells)))
        output = in_turn(kernels, SHOW.format(MEGABYTES), options.outputs)
    return table({name: taken[1:] for name, taken in ready.items()}, cells, output)


def local(person: Session) -> tuple[Kernel, float]:
    """A kernel of the server itself, and the seconds that it took."""
    return clicked(person, "python3")


def on_lease(person: Session) -> tuple[Kernel, float]:
    """A lease, then a kernel on it, and the seconds that only the latter took."""
    asked = person.api(
        "POST", "gpu/requests", json={"gib": 16, "minutes": 30}, headers={"Idempotency-Key": uuid.uuid4().hex}
    )
    asked.raise_for_status()
    request = asked.json()["id"]

    def offered() -> bool:
        items = person.api("GET", "gpu/leases").json()["items"]
        return any(one["request"] == request and one["state"] == "offered" for one in items)

    wait_for(offered, 120, "a lease")
    return clicked(person, "specola-gpu")


def clicked(person: Session, name: str) -> tuple[Kernel, float]:
    """Start a kernel as a browser does; seconds until it has answered."""
    begin = time.perf_counter()
    made = person.lab("POST", "api/kernels", json={"name": name})
    made.raise_for_status()
    kernel = Kernel(person, made.json()["id"])
    # as every browser does; without it some round trips wait 40 ms for an acknowledgement
    kernel.socket.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # the client checks each byte in Python otherwise, and is then what is measured
    kernel.socket.frame_buffer.skip_utf8_validation = kernel.socket.cont_frame.skip_utf8_validation = True
    kernel.run("1")
    return kernel, time.perf_counter() - begin


def end(kernel: Kernel) -> None:
    """Shut it down, and wait until no lease is left."""
    kernel.socket.close()
    kernel.session.lab("DELETE", f"api/kernels/{kernel.id}").raise_for_status()

    def over() -> bool:
        return all(one["state"] == "ended" for one in kernel.session.api("GET", "gpu/leases").json()["items"])

    wait_for(over, 120, "the end of the lease")


def in_turn(kernels: dict[str, Kernel], code: str, times: int) -> dict[str, list[float]]:
    """Seconds of each run, the kernels in turn; one before does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in kernels}
    for turn in range(times + 1):
        for name in sorted(kernels, reverse=bool(turn % 2)):
            begin = time.perf_counter()
            kernels[name].run(code)
            seconds[name].append(time.perf_counter() - begin)
    return {name: taken[1:] for name, taken in seconds.items()}


def table(ready: dict[str, list[float]], cells: dict[str, list[float]], output: dict[str, list[float]]) -> Measurement:
    """Figures and rows."""
    starts = {name: median(taken) for name, taken in ready.items()}
    trips = {name: median([1000 * one for one in taken]) for name, taken in cells.items()}
    speed = {name: rounded(MEGABYTES / median(taken)) for name, taken in output.items()}
    overhead = rounded(trips["gpu"] - trips["local"])
    rows = [
        (
            title,
            f"{starts[name]:.2f}",
            f"{min(ready[name]):.2f} to {max(ready[name]):.2f}",
            f"{trips[name]:.1f}",
            f"{speed[name]:.0f}",
        )
        for name, title in {"local": "local kernel", "gpu": "GPU kernel"}.items()
    ]
    return Measurement(
        ("from the grant to a kernel that answers", "ready (s)", "range", "a cell (ms)", "output (MB/s)"),
        rows,
        {
            "ready_s": starts["gpu"],
            "local_ready_s": starts["local"],
            "overhead_ms": overhead,
            "cell_ms": trips["gpu"],
            "local_cell_ms": trips["local"],
            "output_mb_s": speed["gpu"],
            "local_output_mb_s": speed["local"],
        },
        [f"A cell costs {overhead} ms more on the GPU kernel (difference of the medians)."],
    )
