"""What a site's batch system looks like to the one program that watches one job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


class Refused(Exception):
    """The site does not take the job and will not; a sentence for the person."""


class Away(Exception):
    """The site does not answer at present."""


@dataclass(frozen=True)
class Seen:
    """How a job is; `reason` is a sentence, empty for one that simply ended."""

    state: Literal["waiting", "running", "gone"]
    reason: str = ""
    host: str = ""
    device: str = ""


class Batch(Protocol):
    """A site's batch system as one person uses it for one lease. Every method may raise Away."""

    def find(self) -> list[str]:
        """Jobs with the lease's mark that wait or run, the newest first."""

    def submit(self) -> str:
        """Send the job; Refused when the site does not want it."""

    def look(self, job: str) -> Seen:
        """How a job is; one that nobody knows is gone."""

    def remove(self, job: str) -> None:
        """Take a job back; one that is gone is fine."""
