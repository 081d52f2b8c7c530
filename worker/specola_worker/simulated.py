"""Make a simulated slice compute: for demonstrations and tests, where there is no GPU to load.

    with Load(engine=0.9, gib=4):
        ...

While it lasts the slice is in use, as by a CUDA context, and reports this much; it ends with the process at the latest.
"""

from __future__ import annotations

import fcntl
import json
import os
from types import TracebackType
from typing import Self

VARIABLE = "SPECOLA_SIMULATED_GPU"
GIB = 2**30
LENGTH = 256
"""every report is as long, so that nobody reads the end of an older one"""


class Load:
    """So much of the engine (0 to 1) and so many GiB of this process's simulated slice; LookupError without one."""

    def __init__(self, engine: float = 0.9, gib: float = 1.0) -> None:
        if VARIABLE not in os.environ:
            raise LookupError("this process has no simulated GPU")
        self.engine = engine
        self.gib = gib
        self._door = -1

    def begin(self) -> Self:
        """Use the slice from now on."""
        if self._door < 0:
            self._door = os.open(os.environ[VARIABLE], os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._door, fcntl.LOCK_SH)
        return self.change()

    def change(self, engine: float | None = None, gib: float | None = None) -> Self:
        """Report other numbers."""
        self.engine = self.engine if engine is None else engine
        self.gib = self.gib if gib is None else gib
        report = json.dumps({"engine": self.engine, "memory": int(self.gib * GIB)})
        os.pwrite(self._door, report.ljust(LENGTH).encode(), 0)
        return self

    def end(self) -> None:
        """Let go of the slice."""
        if self._door >= 0:
            os.close(self._door)
            self._door = -1

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
