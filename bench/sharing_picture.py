"""The picture of the sharing bench: GPUs needed over duty, a line for every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.sharing_run import Policy

COLOURS = {
    "A": "#9a9a9a",
    "B": "#8c6d31",
    "C": "#b5895b",
    "D": "#3b6ea8",
    "E": "#c9a227",
    "F": "#7fb069",
    "G": "#1b7f5c",
    "H": "#0b4f3a",
    "S": "#d0642b",
}


def draw(
    shown: Mapping[tuple[str, float], Mapping[str, float]],
    chosen: Sequence[Policy],
    duties: Sequence[float],
    path: Path,
) -> None:
    """Left: GPUs needed; right: states lost per session without a checkpoint, where slices are on lease."""
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=(3, 2))
    at = sorted(duties)
    for policy in chosen:
        style = "-" if policy.leased else "--"
        gpus = [shown[policy.name, duty]["gpus"] for duty in at]
        left.plot(at, gpus, style, marker="o", color=COLOURS[policy.name], label=f"{policy.name}  {policy.title}")
        if policy.leased:
            lost = [shown[policy.name, duty]["losses"] for duty in at]
            right.plot(at, lost, style, marker="o", color=COLOURS[policy.name])
    left.set_yscale("log")
    ticks = (5, 7, 10, 15, 20, 30, 50, 70)
    left.set_yticks(ticks, [str(tick) for tick in ticks])
    left.minorticks_off()
    left.set_ylabel("GPUs for 95 % in 60 s and at most 2 % given up")
    left.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(0.0, -0.14), ncols=2, frameon=False)
    right.set_ylabel("kernel states lost per session without a checkpoint")
    for axes in (left, right):
        axes.set_xlabel("duty: share of a session in which its GPU computes")
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.25)
    figure.suptitle("Invented weeks of 110 sessions a day and a course of 40, played through the planner", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
