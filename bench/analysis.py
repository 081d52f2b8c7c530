"""The VBS selection as a plain loop, on columns, and on columns with Dask: events per second of wall and CPU time.

The three run over the same files, one after the other in every round; the median of the rounds counts. Reading is
included, making the files and importing libraries are not. CPU time is that of this process and of the workers, the
scheduler's share included.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster
from specola_lab.vbs import columnar, distributed, generator, loop
from specola_lab.vbs.selection import Result

from bench.figures import Measurement, median, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--events", type=int, default=40_000, help="events of each of the four processes")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--workers", type=int, default=2, help="Dask workers, one thread each")


def cluster(workers: int) -> Any:
    """A cluster of the facility when this runs inside one of its servers, otherwise Dask's own on this machine."""
    if "SPECOLA_API_URL" in os.environ:
        from specola_lab import scaleout

        return scaleout.cluster(workers=workers)
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)


def timed(run: Callable[[], Result], client: Client) -> tuple[Result, float, float]:
    """Result, wall seconds and CPU seconds of one pass."""
    cpu, wall = cpu_seconds(client), time.perf_counter()
    result = run()
    wall = time.perf_counter() - wall
    return result, wall, cpu_seconds(client) - cpu


def cpu_seconds(client: Client) -> float:
    """CPU time so far of this process and of all workers."""
    workers: dict[str, float] = client.run(time.process_time)
    return time.process_time() + sum(workers.values())


def measure(options: argparse.Namespace) -> Measurement:
    """Run the bench."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        paths = [
            generator.write(Path(folder, f"{name}.root"), name, options.events, seed)
            for seed, name in enumerate(generator.PROCESSES)
        ]
        with cluster(options.workers) as where, Client(where) as client:
            client.wait_for_workers(options.workers)
            return rounds(paths, client, options)


def rounds(paths: Sequence[Path], client: Client, options: argparse.Namespace) -> Measurement:
    """Warm up, measure interleaved, compare the results, make the table."""
    passes: dict[str, Callable[[], Result]] = {
        "loop": lambda: sum((loop.run(path) for path in paths), Result()),
        "columnar": lambda: sum((columnar.run(path) for path in paths), Result()),
        "dask": lambda: distributed.run(client, paths),
    }
    client.run(distributed.analyze, distributed.Chunk(str(paths[0]), 0, 500))
    loop.run(paths[0], stop=500)
    columnar.run(paths[0], stop=500)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for _ in range(options.rounds):
        results = []
        for name, run in passes.items():
            result, wall, cpu = timed(run, client)
            results.append(result)
            seconds[name].append((wall, cpu))
        if any(result != results[0] for result in results):
            message = "the implementations disagree, so there is nothing to compare"
            raise AssertionError(message)
    return table(seconds, len(paths) * options.events, options.workers)


def table(seconds: dict[str, list[tuple[float, float]]], events: int, workers: int) -> Measurement:
    """Rates out of the seconds of each round."""
    khz = {name: median([events / wall / 1000 for wall, _ in spent]) for name, spent in seconds.items()}
    per_cpu = {name: median([events / cpu for _, cpu in spent]) for name, spent in seconds.items()}
    titles = {"loop": "plain loop", "columnar": "columnar", "dask": f"columnar on Dask, {workers} workers"}
    rows = [
        (titles[name], f"{khz[name]:.1f}", f"{per_cpu[name]:,.0f}", f"{khz[name] / khz['loop']:.1f}")
        for name in seconds
    ]
    return Measurement(
        ("VBS selection", "kHz (wall)", "events / CPU s", "x loop"),
        rows,
        {
            **{f"{name}_khz": rate for name, rate in khz.items()},
            **{f"{name}_events_per_cpu_s": rate for name, rate in per_cpu.items()},
            "workers": workers,
            "columnar_over_loop_cpu": rounded(per_cpu["columnar"] / per_cpu["loop"]),
            "events": events,
        },
        [f"{events:,} events, median of {len(seconds['loop'])} rounds; the three agree in every number."],
    )
