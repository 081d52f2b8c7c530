"""Click to idle kernel: Specola beside stock JupyterHub on the same machine, one by one and ten at once.

Both hubs run all the time and are asked in turn. One by one: one person's server is started and stopped again, after
one round that does not count. Ten at once: ten people who never had a server before the first burst; the clock stops
at the last kernel. Bursts are repeated in turn as well, the order turned round each time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import Facility, started

from bench import stock
from bench.client import Person, Refused
from bench.figures import Measurement, median, rounded

BURST = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--rounds", type=int, default=5, help="how often one server is started at each hub")
    parser.add_argument("--bursts", type=int, default=2, help="how often ten are started at once at each hub")


def person(facility: Facility, name: str) -> Person:
    """Somebody who logged in at Specola, with a token."""
    return Person(facility.url, name, facility.login(name).token)


def measure(options: argparse.Namespace) -> Measurement:
    """Run the bench."""
    names = ["single", *(f"burst{index}" for index in range(BURST))]
    with (
        started(Path(__file__).with_name("facility.yaml")) as facility,
        stock.hub(names) as theirs,
    ):
        ours = [person(facility, name) for name in names]
        single = one_by_one({"stock": theirs[0], "specola": ours[0]}, options.rounds)
        bursts = in_turn({"stock": theirs[1:], "specola": ours[1:]}, options.bursts)
    return table(single, bursts)


def one_by_one(people: dict[str, Person], rounds: int) -> dict[str, list[float]]:
    """Seconds of each start, the hubs in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in people}
    for _ in range(rounds + 1):
        for name, somebody in people.items():
            seconds[name].append(somebody.click_to_idle())
            somebody.stop()
    return {name: taken[1:] for name, taken in seconds.items()}


def in_turn(people: dict[str, list[Person]], times: int) -> dict[str, tuple[float, list[str]]]:
    """Median seconds of the bursts at each hub, and all refusals."""
    taken: dict[str, list[float]] = {name: [] for name in people}
    refused: dict[str, list[str]] = {name: [] for name in people}
    for turn in range(times):
        for name in sorted(people, reverse=bool(turn % 2)):
            seconds, refusals = burst(people[name])
            taken[name].append(seconds)
            refused[name] += refusals
    return {name: (median(taken[name]), refused[name]) for name in people}


def burst(people: Sequence[Person]) -> tuple[float, list[str]]:
    """Seconds until the last of them has a kernel, and what the refused ones were told."""

    def click(somebody: Person) -> str | None:
        try:
            somebody.click_to_idle()
        except Refused as refused:
            return str(refused)
        return None

    begin = time.perf_counter()
    with ThreadPoolExecutor(len(people)) as pool:
        answers = list(pool.map(click, people))
    seconds = time.perf_counter() - begin
    for somebody in people:
        somebody.stop()
    return seconds, [answer for answer in answers if answer]


def table(single: dict[str, list[float]], bursts: dict[str, tuple[float, list[str]]]) -> Measurement:
    """Figures and rows."""
    alone = {name: median(taken) for name, taken in single.items()}
    titles = {"stock": "stock JupyterHub, SimpleLocalProcessSpawner", "specola": "Specola"}
    rows = [
        (
            title,
            f"{alone[name]:.2f}",
            f"{min(single[name]):.2f} to {max(single[name]):.2f}",
            f"{bursts[name][0]:.1f}",
            str(len(bursts[name][1])),
        )
        for name, title in titles.items()
    ]
    return Measurement(
        ("click to idle kernel", "alone (s)", "range", "ten at once (s)", "refused"),
        rows,
        {
            "stock_s": alone["stock"],
            "specola_s": alone["specola"],
            "ratio": rounded(alone["specola"] / alone["stock"]),
            "burst10_s": bursts["specola"][0],
            "burst10_refused": len(bursts["specola"][1]),
            "stock_burst10_s": bursts["stock"][0],
            "stock_burst10_refused": len(bursts["stock"][1]),
        },
        [f"{name}: {refusal}" for name, (_, refusals) in bursts.items() for refusal in refusals],
    )
