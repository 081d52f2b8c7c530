"""HiGHS as an oracle for packing: reads instances from stdin as JSON, writes whether each is feasible.

A process of its own, because the library that HiGHS brings clashes with the one of OR-tools where both are loaded.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import highspy


def feasible(instance: dict[str, Any]) -> bool:
    """One binary variable for every GPU, shape and start; slots and counters are the constraints."""
    model = highspy.Highs()
    model.silent()
    shapes, capacity, slots = instance["shapes"], instance["capacity"], instance["slots"]
    lying = {shape: [] for shape in instance["need"]}
    for gpu in instance["gpus"]:
        taken = {slot for start, size, _ in gpu for slot in range(start, start + size)}
        used: dict[str, list[Any]] = {counter: [] for counter in capacity}
        over: dict[int, list[Any]] = {slot: [] for slot in range(slots)}
        for shape in instance["need"]:
            for start in shapes[shape]["starts"]:
                places = range(start, start + shapes[shape]["size"])
                if taken.intersection(places):
                    continue
                variable = model.addBinary()
                lying[shape].append(variable)
                for slot in places:
                    over[slot].append(variable)
                for counter, amount in shapes[shape]["counters"].items():
                    used[counter].append(amount * variable)
        for some in over.values():
            if some:
                model.addConstr(sum(some) <= 1)
        for counter, some in used.items():
            spent = sum(shapes[shape]["counters"].get(counter, 0) for _, _, shape in gpu)
            if some:
                model.addConstr(sum(some) <= capacity[counter] - spent)
    for shape, number in instance["need"].items():
        if len(lying[shape]) < number:
            return False
        if lying[shape]:
            model.addConstr(sum(lying[shape]) == number)
    model.solve()
    return model.getModelStatus() in {highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kModelEmpty}


if __name__ == "__main__":
    json.dump([feasible(instance) for instance in json.load(sys.stdin)], sys.stdout)
