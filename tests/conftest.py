"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from running import Facility, started

if TYPE_CHECKING:
    from pools.htcondor import HTCondorPool
    from pools.slurm import SlurmPool

A100 = {"1g.10gb": 4, "3g.40gb": 1}
"""slices of the sites"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long tests too")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Any order, but journeys in theirs and at the end; the browser, which keeps an event loop, last of all."""
    written = {id(item): index for index, item in enumerate(items)}
    yield
    for item in items:
        skip_unless_possible(config, item)
    journeys = [item for item in items if is_ordered(item)]
    rest = [item for item in items if not is_ordered(item)]
    journeys.sort(key=lambda item: (uses_browser(item), written[id(item)]))
    items[:] = rest + journeys


def is_ordered(item: pytest.Item) -> bool:
    return item.get_closest_marker("journey") is not None or uses_browser(item)


def uses_browser(item: pytest.Item) -> bool:
    return "browser" in getattr(item, "fixturenames", ())


def skip_unless_possible(config: pytest.Config, item: pytest.Item) -> None:
    reasons = {
        "soak": None if config.getoption("--soak") else "only with --soak",
        "needs_root": None if os.geteuid() == 0 else "accounts are made by root only",
        "needs_gpu": None if Path("/dev/nvidia0").exists() else "no GPU",
    }
    for name, reason in reasons.items():
        if reason and item.get_closest_marker(name):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What could not be run here, by name, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("not run here")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.line(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def facility() -> Iterator[Facility]:
    """The demo facility, shared by the journeys of one run."""
    with started() as running:
        yield running


@pytest.fixture(scope="session")
def htcondor() -> Iterator[HTCondorPool]:
    """A real HTCondor with five simulated slices of a GPU, for every test of one run."""
    from pools.htcondor import htcondor_pool, slices

    with htcondor_pool(slices(A100)) as pool:
        yield pool


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmPool]:
    """A real Slurm with the same."""
    from pools.slurm import slurm_pool

    with slurm_pool(A100) as pool:
        yield pool


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, object]) -> dict[str, object]:
    """Debian's Chromium, without its calls home; on a busy machine a page takes its time."""
    expect.set_options(timeout=60_000)
    quiet = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    more = ["--disable-component-update", "--disable-sync"]
    return browser_type_launch_args | {"executable_path": "/usr/bin/chromium", "args": [*quiet, *more]}
