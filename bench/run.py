"""``scripts/bench NAME``: run one measurement alone."""

from __future__ import annotations

import argparse
import importlib
import sys

from bench import figures

BENCHES = {
    "analysis": "the VBS selection as a loop, on columns and on Dask: kHz and events per CPU second",
    "kernel": "a GPU kernel beside a local one: ready, per cell, output",
    "packing": "the GPU planner beside a HiGHS model and exhaustive search: ms for a plan",
    "sharing": "GPUs that people need who share them: policies side by side through the real planner",
    "spawn": "click to idle kernel beside stock JupyterHub, one by one and ten at once",
}


def main(words: list[str] | None = None) -> int:
    """Command line."""
    listing = "\n".join(f"  {name:10} {what}" for name, what in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Run one measurement.",
        epilog=f"benches:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(BENCHES), metavar="NAME", help="one of the benches below")
    name = parser.parse_known_args((words or sys.argv[1:])[:1])[0].name
    bench = importlib.import_module(f"bench.{name}")
    bench.arguments(parser)
    options = parser.parse_args(words)
    before = figures.load()
    figures.tell(name, bench.measure(options), before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
