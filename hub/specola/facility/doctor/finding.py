"""What a probe says, and about whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from specola.core.layout import Layout
from specola.facility.runtime import Runtime


class Mark(Enum):
    """What a probe has to say."""

    WELL = "✓"
    ILL = "✗"
    NOT_TRIED = "–"


@dataclass(frozen=True)
class Finding:
    """One line: how it is, what was found, and what to do."""

    mark: Mark
    text: str
    todo: str = ""


def well(text: str) -> Finding:
    """It works."""
    return Finding(Mark.WELL, text)


def ill(text: str, todo: str) -> Finding:
    """People would notice."""
    return Finding(Mark.ILL, text, todo)


def not_tried(text: str, todo: str = "") -> Finding:
    """There is nothing to try, or nothing that must be better."""
    return Finding(Mark.NOT_TRIED, text, todo)


def needs_file() -> Finding:
    """There is no facility to look at."""
    return not_tried("needs a valid facility file")


@dataclass(frozen=True)
class Patient:
    """The facility that is looked at; without a `runtime` its file cannot be used."""

    layout: Layout
    source: str
    runtime: Runtime | None = None
    complaints: tuple[str, ...] = ()
    up: bool = False


Findings = list[Finding]
Probe = Callable[[Patient], Awaitable[Findings]]
