"""What a demonstration or a test tells simulated GPUs: faults, delays, other people's slices, scripted load.

`control.json` in the pool's directory, read again at each call; without it the cards are healthy and fast.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pydantic import Field, ValidationError

from specola.core.files import read_regular, replace_file
from specola.core.section import Section
from specola.gpu.model import ActuatorError

FILE = "control.json"
GIB = 2**30

log = logging.getLogger(__name__)


class Fault(Section):
    """What is the matter with one card."""

    healthy: bool = True
    reason: str = Field(default="it fell off the bus", description="shown while it is not healthy")
    foreign: tuple[tuple[int, int], ...] = Field(default=(), description="(start, size) that others occupy")
    held: str = Field(default="", description="what keeps the GPU from a reset, as a monitoring agent does")


class Refusals(Section):
    """Texts with which every call of a kind fails; empty: none does."""

    make: str = ""
    destroy: str = ""


class Phase(Section):
    """Load from `after` seconds after a slice was made, until the next phase."""

    after: float = Field(default=0.0, ge=0)
    engine: float = Field(default=0.0, ge=0, le=1)
    memory_gib: float = Field(default=0.0, ge=0)


class Control(Section):
    """Everything that can be told."""

    cards: dict[int, Fault] = Field(default={}, description="what is the matter with cards, by index")
    latency: float = Field(default=0.0, ge=0, le=600, description="seconds that making or destroying takes")
    blind: bool = Field(default=False, description="nothing measures the engine, as on Ampere inside a container")
    names: dict[str, str] = Field(default={}, description="names of shapes that this driver has changed")
    refuse: Refusals = Refusals()
    script: tuple[Phase, ...] = Field(default=(), description="load of slices that no process speaks for")

    def fault(self, index: int) -> Fault:
        """What is the matter with a card."""
        return self.cards.get(index, Fault())

    async def delay(self, why: str) -> None:
        """Take as long as told, then fail where told."""
        if self.latency:
            await asyncio.sleep(self.latency)
        if why:
            raise ActuatorError(why)

    def scripted(self, age: float) -> tuple[float, int] | None:
        """Share of the engine, and bytes, of a slice that was made `age` seconds ago."""
        begun = [phase for phase in self.script if phase.after <= age]
        if not begun:
            return None
        phase = max(begun, key=lambda one: one.after)
        return phase.engine, int(phase.memory_gib * GIB)


def read_control(directory: Path) -> Control:
    """What was told last; a file that makes no sense tells nothing."""
    try:
        return Control.model_validate_json(read_regular(directory / FILE))
    except FileNotFoundError:
        return Control()
    except (OSError, ValidationError) as error:
        log.warning("%s is not understood: %s", directory / FILE, error)
        return Control()


def write_control(directory: Path, control: Control) -> None:
    """Tell the cards of a pool."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(directory / FILE, control.model_dump_json(), durable=False)
