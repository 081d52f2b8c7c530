"""Snapshots of GPU kernels in the home: what there is, and how one that came over the wire is put in its place."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
KEPT = 5
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def listing(place: Path) -> list[dict[str, Any]]:
    """The manifests, newest first, each with its `name`."""
    found = []
    for path in place.glob(f"[!.]*/{MANIFEST}"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            manifest = {**json.loads(path.read_text()), "name": path.parent.name}
            found.append(manifest | {"created": float(manifest.get("created", 0))})
    return sorted(found, key=lambda one: one["created"], reverse=True)


def find(place: Path, name: str) -> Path | None:
    """The directory of a snapshot; None when there is none of that name."""
    path = place / name
    return path if NAME.fullmatch(name) and (path / MANIFEST).is_file() else None


def put(aside: Path, target: Path) -> None:
    """Put a complete directory in its place, and forget the oldest beside it."""
    if target.exists():
        shutil.rmtree(target)
    aside.rename(target)
    for one in listing(target.parent)[KEPT:]:
        shutil.rmtree(target.parent / one["name"], ignore_errors=True)
