"""Specola inside a user's own server.

The server half relays to the facility's service and answers what only this server knows (home, activity,
the dashboards of its clusters); `from specola_lab import scaleout` is the facility from a notebook cell.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "@specola/lab"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "specola_lab"}]


def _load_jupyter_server_extension(app: Any) -> None:
    from specola_lab.app import load  # a kernel that imports specola_lab needs no jupyter_server

    load(app)
