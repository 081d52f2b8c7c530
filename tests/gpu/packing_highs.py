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
    lying: dict[str, list[Any]] = {shape: [] for shape in instance["need"]}
    for gpu in instance["gpus"]:
        lay(model, instance, gpu, lying)
    for shape, number in instance["need"].items():
        if len(lying[shape]) < number:
            return False
        model.addConstr(sum(lying[shape]) == number)
    model.solve()
    return model.getModelStatus() in {highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kModelEmpty}


def lay(model: Any, instance: dict[str, Any], gpu: list[list[Any]], lying: dict[str, list[Any]]) -> None:
    """What may lie on one GPU, beside what lies there."""
    shapes, capacity = instance["shapes"], instance["capacity"]
    taken = {slot for start, size, _ in gpu for slot in range(start, start + size)}
    sums: dict[object, list[Any]] = {}
    for shape in instance["need"]:
        for start in shapes[shape]["starts"]:
            places = range(start, start + shapes[shape]["size"])
            if taken.intersection(places):
                continue
            variable = model.addBinary()
            lying[shape].append(variable)
            for slot in places:
                sums.setdefault(slot, []).append(variable)
            for counter, amount in shapes[shape]["counters"].items():
                sums.setdefault(counter, []).append(amount * variable)
    for what, some in sums.items():
        spent = sum(shapes[shape]["counters"].get(what, 0) for _, _, shape in gpu)
        model.addConstr(sum(some) <= capacity.get(what, 1) - spent)


if __name__ == "__main__":
    json.dump([feasible(instance) for instance in json.load(sys.stdin)], sys.stdout)
