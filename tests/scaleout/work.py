"""What tests run inside schedulers and workers; travels by value, since no test lies on their path."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Event

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def own_files() -> dict[str, int]:
    place = Path(os.environ["SPECOLA_HTTP_SOCKET"]).parent
    return {str(path): path.stat().st_mode for path in place.iterdir()}


def want_fifty(dask_scheduler: Any) -> None:
    dask_scheduler.services["gateway"].count = 50


def slow(seconds: float) -> Callable[[int], int]:
    """A function that takes its time; made here, so that it cannot be pickled by its name."""

    def slowly(x: int) -> int:
        time.sleep(seconds)
        return x

    return slowly


def after(event: str) -> Callable[[int], int]:
    """A function that waits for an event of its cluster; made here, as above."""

    def waits(x: int) -> int:
        Event(event).wait()
        return x

    return waits


def value_of(name: str) -> str:
    return os.environ[name]


def environment() -> dict[str, str]:
    return dict(os.environ)


def token() -> str:
    return Path(os.environ["DASK_GATEWAY_API_TOKEN"]).read_text()


def pid() -> int:
    return os.getpid()
