"""The GPU planner: CPU milliseconds for a plan, beside what one would take instead to know what fits.

A plan of ours is everything that the service decides at once: order of the queue, admission, places, idle leases asked
to go. Beside it stands the one question that a solver could answer, whether a set of slices fits on part-full GPUs: by
our count, by HiGHS on a model of whole-GPU patterns, and by exhaustive search with memory, which is feasible on three
GPUs only. The three must agree.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import highspy
from gpu import packing_oracle as oracle
from specola.gpu import packing
from specola.gpu.adapters.profiles import models
from specola.gpu.planning import plan
from specola.gpu.state import GpuState, GroupShare, Holding, PoolState, Slot, State, Want, Wish

from bench.figures import Measurement, median

GEOMETRY = models()["A100-40GB"].geometry
MIX = ["1g"] * 45 + ["1gx2"] * 12 + ["2g"] * 20 + ["3g"] * 13 + ["4g"] * 5 + ["7g"] * 5
NOW = 10_000.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--states", type=int, default=25, help="random states for every figure")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is planned; the fastest counts")


def gpus(cards: int, chance: random.Random) -> list[oracle.Gpu]:
    """Part-full GPUs: two thirds of what was made on them still lies there."""
    found = []
    for _ in range(cards):
        parts: list[oracle.Part] = []
        for _ in range(8):
            shape = GEOMETRY.shapes[chance.choice(MIX)]
            part = (chance.choice(shape.starts), shape.size, shape.name)
            if oracle.is_sound(GEOMETRY, [*parts, part]):
                parts.append(part)
        found.append(tuple(part for part in parts if chance.random() < 0.66))
    return found


def facility(cards: int, requests: int, idle: float, seed: int) -> tuple[State, tuple[Wish, ...]]:
    """GPUs with leases of four groups, a share of which is idle, and a queue."""
    chance = random.Random(seed)
    holdings = []
    for index, parts in enumerate(gpus(cards, chance)):
        for start, size, shape in parts:
            quiet = chance.random() < idle
            holdings.append(
                Holding(
                    f"{index}.{start}",
                    "a",
                    Slot(f"g{index}", start, size),
                    shape,
                    "ann",
                    f"group{chance.randrange(4)}",
                    "active",
                    0.0,
                    active=0.0,
                    expires=NOW + 1000 + 9000 * chance.random(),
                    idle_since=NOW * chance.random() / 2 if quiet else None,
                    computing=not quiet,
                )
            )
    queue = tuple(
        Wish(f"w{index}", "bob", f"group{chance.randrange(4)}", (Want("a", chance.choice(MIX)),), NOW * chance.random())
        for index in range(requests)
    )
    pool = PoolState("a", GEOMETRY, tuple(GpuState(f"g{index}") for index in range(cards)))
    groups = {f"group{index}": GroupShare(guaranteed=4.0, usage=1e5 * index) for index in range(4)}
    return State({"a": pool}, tuple(holdings), groups), queue


def fastest(work: Callable[[], Any], rounds: int) -> float:
    """CPU milliseconds of the fastest of some rounds: what others do on the machine is not in it."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1000 * min(spent)


def planned(cards: int, requests: int, idle: float, states: int, rounds: int) -> float:
    """Median milliseconds of a plan."""
    spent = []
    for seed in range(states):
        state, queue = facility(cards, requests, idle, seed)
        spent.append(fastest(lambda state=state, queue=queue: plan(state, queue, NOW), rounds))  # type: ignore[misc]
    return median(spent)


@cache
def patterns(free: int) -> frozenset[tuple[tuple[str, int], ...]]:
    """What can be laid on a GPU with these free slots, as far as nothing more could be added."""
    found: set[tuple[tuple[str, int], ...]] = set()
    full = True
    for name in set(MIX):
        shape = GEOMETRY.shapes[name]
        for start in shape.starts:
            bits = ((1 << shape.size) - 1) << start
            if free & bits == bits:
                full = False
                for rest in patterns(free & ~bits):
                    found.add(tuple(sorted((Counter(dict(rest)) + Counter([name])).items())))
    return frozenset([()]) if full else frozenset(found)


def by_highs(lying: Sequence[oracle.Gpu], need: Counter[str]) -> bool:
    """Whether it fits, by a model with one integer for every pattern of every kind of GPU."""
    model = highspy.Highs()
    model.silent()
    kinds = Counter(255 & ~oracle.bare(GEOMETRY, gpu)[0] for gpu in lying)
    supply: dict[str, list[Any]] = {shape: [] for shape in need}
    for free, number in kinds.items():
        used = []
        for pattern in patterns(free):
            variable = model.addIntegral(lb=0, ub=number)
            used.append(variable)
            for shape, count in pattern:
                if shape in supply:
                    supply[shape].append(count * variable)
        model.addConstr(sum(used) <= number)
    for shape, number in need.items():
        if not supply[shape]:
            return False
        model.addConstr(sum(supply[shape]) >= number)
    model.solve()
    return bool(model.getModelStatus() == highspy.HighsModelStatus.kOptimal)


def edge(lying: Sequence[oracle.Gpu], chance: random.Random) -> list[Counter[str]]:
    """The last set that fits and the first that does not: the hard questions."""
    room = packing.room_of(GEOMETRY, lying)
    while room.promise(shape := chance.choice(MIX)):
        pass
    need = Counter(room.promised)
    return [need, need + Counter([shape])]


def asked(
    name: str, way: Callable[[Sequence[oracle.Gpu], Counter[str]], bool], cards: int, states: int, rounds: int
) -> float:
    """Median milliseconds of one question; wrong answers end the bench."""
    spent = []
    for seed in range(states):
        chance = random.Random(seed)
        lying = gpus(cards, chance)
        for need, expected in zip(edge(lying, chance), (True, False), strict=True):
            if way(lying, need) != expected:
                message = f"{name} disagrees about {need} on {lying}"
                raise AssertionError(message)
            spent.append(fastest(lambda lying=lying, need=need: way(lying, need), rounds))  # type: ignore[misc]
    return median(spent)


def measure(options: argparse.Namespace) -> Measurement:
    """Run the bench."""
    few, rounds = max(3, options.states // 5), options.rounds
    plans = {
        "plan_200x32_ms": planned(32, 200, 0.0, options.states, 10 * rounds),
        "plan_200x32_reclaiming_ms": planned(32, 200, 0.2, options.states, 10 * rounds),
        "plan_10000x1000_ms": planned(1000, 10_000, 0.0, few, rounds),
        "plan_10000x1000_reclaiming_ms": planned(1000, 10_000, 0.2, few, rounds),
    }

    def count(lying: Sequence[oracle.Gpu], need: Counter[str]) -> bool:
        return packing.feasible(GEOMETRY, lying, need)

    def search(lying: Sequence[oracle.Gpu], need: Counter[str]) -> bool:
        return oracle.fits(GEOMETRY, lying, need)

    questions = {
        "count_32_ms": asked("the count", count, 32, options.states, rounds),
        "highs_32_ms": asked("HiGHS", by_highs, 32, few, 2),
        "count_3_ms": asked("the count", count, 3, options.states, rounds),
        "exhaustive_3_ms": asked("exhaustive search", search, 3, few, 1),
    }
    titles = {
        "plan_200x32_ms": "plan: 200 requests, 32 GPUs, all leases compute",
        "plan_200x32_reclaiming_ms": "plan: the same, every fifth lease idle",
        "plan_10000x1000_ms": "plan: 10,000 requests, 1,000 GPUs, all leases compute",
        "plan_10000x1000_reclaiming_ms": "plan: the same, every fifth lease idle",
        "count_32_ms": "does a set fit on 32 GPUs: counted",
        "highs_32_ms": "the same by HiGHS, pattern model",
        "count_3_ms": "does a set fit on 3 GPUs: counted",
        "exhaustive_3_ms": "the same by exhaustive search with memory",
    }
    figures = plans | questions
    rows = [(titles[name], f"{value:.4g}") for name, value in figures.items()]
    remark = (
        f"Median over random states, fastest of {rounds} rounds each (small plans: {10 * rounds}); all answers agreed."
    )
    return Measurement(("GPU planner", "CPU ms"), rows, dict(figures), [remark])
