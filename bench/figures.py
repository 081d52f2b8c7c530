"""How a measurement is told: a table for people, one JSON line for programs."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Figure = float | int | str | None


@dataclass(frozen=True)
class Measurement:
    """The figures of one bench and the rows that a person reads."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    figures: dict[str, Figure]
    remarks: list[str] = field(default_factory=list)


def median(values: Sequence[float]) -> float:
    """Median, rounded to what is worth reading."""
    return rounded(statistics.median(values))


def rounded(value: float) -> float:
    """Four significant digits: nothing measured here is better than that."""
    return float(f"{value:.4g}")


def load() -> float:
    """How many processes wanted a core in the last minute, before anything was measured."""
    return rounded(os.getloadavg()[0])


def tell(name: str, measurement: Measurement, load_before: float) -> None:
    """Print the table and, as the last line, the JSON object."""
    widths = [
        max(len(row[column]) for row in (measurement.header, *measurement.rows))
        for column in range(len(measurement.header))
    ]
    for row in (measurement.header, *measurement.rows):
        first, *others = (
            text.ljust(width) if not column else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))
    for remark in measurement.remarks:
        print(remark)
    print(f"load {load_before} before, {load()} after, on {os.cpu_count()} cores", flush=True)
    print(json.dumps({"bench": name, "figures": measurement.figures, "load": load_before}))
